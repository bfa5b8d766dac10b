/* A driver library for tests: two scripted GPUs behind the part of NVML's C interface that the sampler uses.
 *
 * The script is in environment variables, read when a function is called:
 *   STUB_UTILIZATION  percentages, one per STUB_PERIOD_US, from initialization on, repeated ("10,50,90")
 *   STUB_STALE        percentage of 50 samples older than initialization (default 1; -1 leaves the buffer empty)
 *   STUB_STOPS_US     the buffer gets no samples after this time
 *   STUB_FAIL         return codes by function ("nvmlDeviceGetPowerUsage=3,nvmlInitWithFlags=9")
 *   STUB_FIELD_RETURN return code inside the field value of the instant power
 *   STUB_LOST_US      every device call fails with 15 (GPU is lost) after this time
 *   STUB_ENERGY       energy counter at initialization, millijoules; STUB_BITS where it wraps; STUB_DROP_US resets it
 *   STUB_THROTTLE     bit mask of clock event reasons; STUB_MIG 1 for MIG mode; STUB_HANG_US a power reading that blocks
 *   STUB_CARDS        how many cards there are; STUB_POWER_LIMIT milliwatts enforced on the first (default 300000, as built)
 *   STUB_PROCESSES    1: this process alone uses the cards; STUB_ECC 0: their memory corrects no errors
 *   STUB_NEIGHBOUR    percentage at which process 1 computes on the cards; STUB_OWN_PID the number that this process is
 *                     listed by, as in a container; STUB_SM_CLOCK megahertz (default 900)
 *   STUB_LOG          file to which initialization, shutdown and the thread of each power reading are written
 * -DWITHOUT_<group> leaves that group's symbols out. Device 0 is the GPU of UUID ...bbbb, device 1 that of ...aaaa;
 * their figures differ by a factor of two.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct { int index; } device_t;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; int si; unsigned short us; } value_t;
typedef struct { unsigned long long stamp; value_t value; } sample_t;
typedef struct { unsigned field, scope; int64_t stamp, latency; unsigned type; int ret; value_t value; } field_t;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process_t;

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
#define RESERVED (1ull << 28)

static const char *UUIDS[2] = {"GPU-bbbbbbbb-0000-4000-8000-000000000000", "GPU-aaaaaaaa-1111-4111-8111-111111111111"};
static device_t devices[2] = {{0}, {1}};
static uint64_t begun;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000u + t.tv_nsec / 1000;
}
static long long number(const char *name, long long otherwise) {
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 0) : otherwise;
}
static void note(const char *what) {
    const char *path = getenv("STUB_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s %ld\n", what, syscall(SYS_gettid)); fclose(file); }
}
static int scripted(const char *function) {
    const char *script = getenv("STUB_FAIL");
    for (const char *at = script; at && (at = strstr(at, function)); at++)
        if (at[strlen(function)] == '=') return atoi(at + strlen(function) + 1);
    return 0;
}
static int fails(const char *function) {
    long long lost = number("STUB_LOST_US", -1);
    if (lost >= 0 && now_us() - begun > (uint64_t)lost) return 15;
    return scripted(function);
}
#define CHECK() do { int code = fails(__func__); if (code) return code; } while (0)
#define FACTOR(d) ((d)->index + 1u)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = scripted(__func__);
    if (code) return code;
    begun = now_us();
    note("init");
    return 0;
}
int nvmlShutdown(void) { note("shutdown"); return scripted(__func__); }

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t **device) {
    CHECK();
    for (int i = 0; i < 2; i++) if (!strcmp(uuid, UUIDS[i])) { *device = &devices[i]; return 0; }
    return 6;
}
int nvmlDeviceGetMigMode(device_t *d, unsigned *current, unsigned *pending) {
    (void)d; CHECK();
    *current = *pending = (unsigned)number("STUB_MIG", 0);
    return 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    CHECK();
    snprintf(text, length, "535.104.05");
    return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { CHECK(); *version = 12020; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { CHECK(); *count = (unsigned)number("STUB_CARDS", 2); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **device) {
    CHECK();
    if (index > 1) return 2;
    *device = &devices[index];
    return 0;
}
int nvmlDeviceGetUUID(device_t *d, char *text, unsigned length) {
    CHECK();
    snprintf(text, length, "%s", UUIDS[d->index]);
    return 0;
}
int nvmlDeviceGetName(device_t *d, char *text, unsigned length) {
    (void)d; CHECK();
    snprintf(text, length, "Stub card");
    return 0;
}

#ifndef WITHOUT_LIMITS
int nvmlDeviceGetEnforcedPowerLimit(device_t *d, unsigned *milliwatts) {
    CHECK();
    *milliwatts = (unsigned)number("STUB_POWER_LIMIT", 300000) * FACTOR(d);
    return 0;
}
int nvmlDeviceGetPowerManagementDefaultLimit(device_t *d, unsigned *milliwatts) {
    CHECK();
    *milliwatts = 300000 * FACTOR(d);
    return 0;
}
int nvmlDeviceGetMaxClockInfo(device_t *d, unsigned kind, unsigned *mhz) {
    CHECK();
    *mhz = (kind == 1 ? 1000u : kind == 2 ? 2000u : 0u) * FACTOR(d);
    return 0;
}
int nvmlDeviceGetEccMode(device_t *d, unsigned *current, unsigned *pending) {
    (void)d; CHECK();
    *current = *pending = (unsigned)number("STUB_ECC", 1);
    return 0;
}
#endif
#ifndef WITHOUT_SAMPLES
static int curve(uint64_t n) { /* the n-th percentage of the script */
    int values[64], count = 0;
    char text[512];
    snprintf(text, sizeof text, "%s", getenv("STUB_UTILIZATION") ? getenv("STUB_UTILIZATION") : "40");
    for (char *part = strtok(text, ","); part && count < 64; part = strtok(NULL, ",")) values[count++] = atoi(part);
    return values[n % count];
}
int nvmlDeviceGetSamples(device_t *d, unsigned kind, unsigned long long seen, unsigned *type, unsigned *count, sample_t *out) {
    CHECK();
    if (kind != 1) return 2;
    *type = 1;
    uint64_t period = (uint64_t)number("STUB_PERIOD_US", 20000), stale = number("STUB_STALE", 1) < 0 ? 0 : 50;
    uint64_t elapsed = now_us() - begun, stops = (uint64_t)number("STUB_STOPS_US", 1ll << 60);
    uint64_t last = (elapsed < stops ? elapsed : stops) / period;
    unsigned found = 0, room = out ? *count : 0;
    for (uint64_t n = 0; n < stale + last; n++) {
        uint64_t stamp = begun - stale * period + (n + 1) * period;
        if (stamp <= seen) continue;
        if (out && found < room) {
            out[found].stamp = stamp;
            out[found].value.ull = 0xffffffff00000000ull; /* only the member that `type` names may be read */
            out[found].value.ui = (n < stale ? (unsigned)number("STUB_STALE", 1) : (unsigned)curve(n - stale)) / FACTOR(d);
        }
        found++;
    }
    *count = out ? (found < room ? found : room) : found;
    return found ? 0 : 6;
}
#endif
#ifndef WITHOUT_RATES
int nvmlDeviceGetUtilizationRates(device_t *d, unsigned *rates) {
    CHECK();
    rates[0] = 66 / FACTOR(d); rates[1] = 11;
    return 0;
}
#endif
#ifndef WITHOUT_MEMORY
int nvmlDeviceGetMemoryInfo(device_t *d, unsigned long long *memory) {
    CHECK();
    memory[0] = 80ull << 30; memory[2] = FACTOR(d) * (10ull << 30) + RESERVED; memory[1] = memory[0] - memory[2];
    return 0;
}
int nvmlDeviceGetMemoryInfo_v2(device_t *d, memory_v2_t *memory) {
    CHECK();
    if (memory->version != (sizeof *memory | 2u << 24)) return 25;
    unsigned long long used = FACTOR(d) * (10ull << 30);
    *memory = (memory_v2_t){memory->version, 80ull << 30, RESERVED, (80ull << 30) - RESERVED - used, used};
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned *count, process_t *out) {
    CHECK();
    if (*count < 2 || !out) { *count = 2; return 7; }
    out[0] = (process_t){(unsigned)number("STUB_OWN_PID", getpid()), FACTOR(d) * (3ull << 30), 0, 0};
    out[1] = (process_t){1u, 5ull << 30, 0, 0};
    *count = (unsigned)number("STUB_PROCESSES", 2);
    return 0;
}
#endif
#ifndef WITHOUT_PROCESSUTILIZATION
typedef struct { unsigned pid; unsigned long long stamp; unsigned sm, memory, encoder, decoder; } use_t;
int nvmlDeviceGetProcessUtilization(device_t *d, use_t *out, unsigned *count, unsigned long long seen) {
    (void)d; CHECK();
    uint64_t now = now_us();
    (void)seen;
    if (*count < 2 || !out) { *count = 2; return 7; }
    out[0] = (use_t){(unsigned)number("STUB_OWN_PID", getpid()), now, 90, 50, 0, 0};
    out[1] = (use_t){1u, now, (unsigned)number("STUB_NEIGHBOUR", 0), 0, 0, 0};
    *count = (unsigned)number("STUB_PROCESSES", 2);
    return 0;
}
#endif
#ifndef WITHOUT_POWER
int nvmlDeviceGetPowerUsage(device_t *d, unsigned *milliwatts) {
    CHECK();
    *milliwatts = 90000 * FACTOR(d);
    return 0;
}
#endif
#ifndef WITHOUT_FIELDS
int nvmlDeviceGetFieldValues(device_t *d, int count, field_t *values) {
    CHECK();
    note("power");
    if (getenv("STUB_HANG_US")) usleep((useconds_t)number("STUB_HANG_US", 0));
    if (count != 1 || values[0].field != 186) return 2;
    values[0].ret = (int)number("STUB_FIELD_RETURN", 0);
    values[0].type = 1;
    values[0].value.ui = 100000 * FACTOR(d);
    return 0;
}
#endif
#ifndef WITHOUT_ENERGY
int nvmlDeviceGetTotalEnergyConsumption(device_t *d, unsigned long long *millijoules) {
    CHECK();
    uint64_t elapsed = now_us() - begun, drop = (uint64_t)number("STUB_DROP_US", 1ll << 60);
    *millijoules = strtoull(getenv("STUB_ENERGY") ? getenv("STUB_ENERGY") : "5000", NULL, 0) + elapsed * FACTOR(d) / 10;
    if (number("STUB_BITS", 64) == 32) *millijoules &= 0xffffffffull;
    if (elapsed > drop) *millijoules = 3;
    return 0;
}
#endif
#ifndef WITHOUT_CLOCKS
int nvmlDeviceGetClockInfo(device_t *d, unsigned kind, unsigned *mhz) {
    CHECK();
    *mhz = (kind == 1 ? (unsigned)number("STUB_SM_CLOCK", 900) : kind == 2 ? 1500u : 0u) * FACTOR(d);
    return 0;
}
#endif
#ifndef WITHOUT_TEMPERATUREV
int nvmlDeviceGetTemperatureV(device_t *d, int *temperature) {
    CHECK();
    temperature[2] = 30 * (int)FACTOR(d); /* after version and sensor */
    return 0;
}
#endif
#ifndef WITHOUT_TEMPERATURE
int nvmlDeviceGetTemperature(device_t *d, unsigned sensor, unsigned *celsius) {
    CHECK();
    *celsius = sensor == 0 ? 31 * FACTOR(d) : 0;
    return 0;
}
#endif
#ifndef WITHOUT_EVENTREASONS
int nvmlDeviceGetCurrentClocksEventReasons(device_t *d, unsigned long long *mask) {
    (void)d; CHECK();
    *mask = (unsigned long long)number("STUB_THROTTLE", 0);
    return 0;
}
#endif
#ifndef WITHOUT_THROTTLEREASONS
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *d, unsigned long long *mask) {
    (void)d; CHECK();
    *mask = (unsigned long long)number("STUB_THROTTLE", 0);
    return 0;
}
#endif
