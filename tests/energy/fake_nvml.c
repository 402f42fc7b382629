/* A stand-in for libnvidia-ml.so.1: NVML's symbols, types and error codes, and values from a script.
 *
 * The script is the file that FAKE_NVML_SCRIPT names, read anew at each call. A line is a call's name and what
 * its successive calls give; the last repeats:
 *
 *     nvmlDeviceGetTotalEnergyConsumption 1000 2500 !15 2600
 *     nvmlDeviceGetMigMode 1/0
 *     field186 240000 ?3
 *     devices 2
 *     memory_clocks 405 5001
 *     graphics_clocks 300 600 1200
 *     compute_pids 4711
 *     process_utilization 4711/80 4712/20
 *     mig_multiprocessors 16 32
 *     gpm1 40 55
 *
 * A number is the value (a/b: two values), !N the call's error N, ?N a field's own error N. A call without a line
 * is NOT_SUPPORTED; Init, Shutdown and the setters then succeed. The words of *_clocks, compute_pids,
 * process_utilization (pid/percent) and mig_multiprocessors (of each slice) are one list; gpmN is how busy GPU
 * instance N was, in percent, up to each sample. What is set is in force: limits and locked clocks show in the
 * getters; the file that FAKE_NVML_LOG names gets a line for each that is set; the one that FAKE_NVML_STATE names
 * keeps them beyond the process, as the driver does, and what another process sets there is seen. Declarations follow nvml.h (driver 580); only what the
 * project calls is here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct card { unsigned index; unsigned limit_mw; unsigned locked_mhz; unsigned slice; } *nvmlDevice_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned version; int sensorType; int temperature; } nvmlTemperature_t;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; int si; } nvmlValue_t;
typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    int valueType;
    nvmlReturn_t nvmlReturn;
    nvmlValue_t value;
} nvmlFieldValue_t;
typedef struct { unsigned pid; unsigned long long usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct {
    unsigned pid;
    unsigned long long timeStamp;
    unsigned smUtil, memUtil, encUtil, decUtil;
} nvmlProcessUtilizationSample_t;
typedef struct {
    unsigned multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount,
        sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount;
    unsigned long long memorySizeMB;
} nvmlDeviceAttributes_t;
typedef struct sample { double percent; } *nvmlGpmSample_t;
typedef struct {
    unsigned metricId;
    nvmlReturn_t nvmlReturn;
    double value;
    struct { char *shortName, *longName, *unit; } metricInfo;
} nvmlGpmMetric_t;
typedef struct {
    unsigned version, numMetrics;
    nvmlGpmSample_t sample1, sample2;
    nvmlGpmMetric_t metrics[477];
} nvmlGpmMetricsGet_t;

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, ARGUMENT_VERSION_MISMATCH = 25 };
enum { VALUE_TYPE_UNSIGNED_INT = 1, CARDS = 8, SLICES = 7, CALLS = 64, GPM_SM_UTIL = 2 };

static int initialised;
static struct card cards[CARDS], slices[CARDS][SLICES];
static struct { char name[64]; int count; } calls[CALLS];

typedef struct { int scripted; nvmlReturn_t error, field_error; unsigned long long first, second; } step_t;

static int times_called(const char *name) {
    int i = 0;
    while (i < CALLS - 1 && calls[i].name[0] && strcmp(calls[i].name, name)) i++;
    snprintf(calls[i].name, sizeof calls[i].name, "%s", name);
    return calls[i].count++;
}

static step_t parse(const char *word) {
    step_t step = {.scripted = 1};
    char *rest;
    if (*word == '!') step.error = atoi(word + 1);
    else if (*word == '?') step.field_error = atoi(word + 1);
    else {
        step.first = strtoull(word, &rest, 10);
        if (*rest == '/') step.second = strtoull(rest + 1, NULL, 10);
    }
    return step;
}

/* What the script says of this call of `name`. */
static step_t next(const char *name) {
    char line[4096];
    int n = times_called(name);
    step_t step = {0};
    const char *path = getenv("FAKE_NVML_SCRIPT");
    FILE *script = path ? fopen(path, "r") : NULL;
    if (!script) { fprintf(stderr, "fake_nvml: FAKE_NVML_SCRIPT cannot be read\n"); abort(); }
    while (fgets(line, sizeof line, script)) {
        char *word = strtok(line, " \n");
        if (!word || strcmp(word, name)) continue;
        for (int i = 0; i <= n && (word = strtok(NULL, " \n")); i++) step = parse(word);
    }
    fclose(script);
    return step;
}

static nvmlReturn_t get(const char *name, unsigned long long *first, unsigned long long *second) {
    if (!initialised) return UNINITIALIZED;
    step_t step = next(name);
    if (!step.scripted) return NOT_SUPPORTED;
    if (step.error) return step.error;
    *first = step.first;
    if (second) *second = step.second;
    return SUCCESS;
}

static nvmlReturn_t get_unsigned(const char *name, unsigned *value) {
    unsigned long long first = 0;
    nvmlReturn_t error = get(name, &first, NULL);
    if (!error) *value = (unsigned)first;
    return error;
}

static nvmlReturn_t set(const char *name) { return initialised ? next(name).error : UNINITIALIZED; }

/* The numbers of a line, as NVML hands out lists: the size first, then as many as there is room for. */
static nvmlReturn_t list(const char *name, unsigned *size, unsigned *values) {
    char line[4096];
    unsigned found = 0;
    nvmlReturn_t error = NOT_SUPPORTED;
    FILE *script = fopen(getenv("FAKE_NVML_SCRIPT"), "r");
    if (!initialised || !script) abort();
    while (fgets(line, sizeof line, script)) {
        char *word = strtok(line, " \n");
        if (!word || strcmp(word, name)) continue;
        for (error = SUCCESS; (word = strtok(NULL, " \n")); found++)
            if (values && found < *size) values[found] = (unsigned)atoi(word);
    }
    fclose(script);
    if (!error && found > *size) error = INSUFFICIENT_SIZE;
    *size = found;
    return error;
}

/* What the driver keeps when a process ends. */
static void remember(int write) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *state = path ? fopen(path, write ? "wb" : "rb") : NULL;
    if (!state) return;
    if (write) fwrite(cards, sizeof cards, 1, state);
    else if (fread(cards, sizeof cards, 1, state) != 1) memset(cards, 0, sizeof cards);
    fclose(state);
}

/* What any process has set last. */
static void recall(nvmlDevice_t device) {
    static struct card kept[CARDS];
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *state = path ? fopen(path, "rb") : NULL;
    if (!state) return;
    if (!device->slice && fread(kept, sizeof kept, 1, state) == 1) {
        device->limit_mw = kept[device->index].limit_mw;
        device->locked_mhz = kept[device->index].locked_mhz;
    }
    fclose(state);
}

static void log_set(const char *what, unsigned value) {
    const char *path = getenv("FAKE_NVML_LOG");
    remember(1);
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    fprintf(log, "%s %u\n", what, value);
    fclose(log);
}

static nvmlReturn_t text(char *buffer, unsigned length, const char *format, unsigned index) {
    if (!initialised) return UNINITIALIZED;
    return (unsigned)snprintf(buffer, length, format, index) < length ? SUCCESS : INSUFFICIENT_SIZE;
}

static unsigned count(void) { step_t step = next("devices"); return step.scripted ? (unsigned)step.first : 1; }

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    nvmlReturn_t error = next("nvmlInit").error;
    if (!error && !initialised++) remember(0);
    return error;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    if (!initialised) return UNINITIALIZED;
    initialised--;
    return next("nvmlShutdown").error;
}

const char *nvmlErrorString(nvmlReturn_t error) { return error ? "an error of the stand-in" : "Success"; }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *devices) {
    if (!initialised) return UNINITIALIZED;
    *devices = count();
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    nvmlReturn_t error = set("nvmlDeviceGetHandleByIndex");
    if (error) return error;
    if (index >= count() || index >= CARDS) return INVALID_ARGUMENT;
    cards[index].index = index;
    *device = &cards[index];
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    if (device->slice) {
        int size = snprintf(uuid, length, "MIG-00000000-0000-0000-%04u-%012u", device->slice, device->index);
        return size < (int)length ? SUCCESS : INSUFFICIENT_SIZE;
    }
    return text(uuid, length, "GPU-00000000-0000-0000-0000-%012u", device->index);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    return text(name, length, "Stand-in %u", device->index);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    if (!initialised) return UNINITIALIZED;
    for (unsigned i = 0; i < count() && i < CARDS; i++) {
        char other[96];
        cards[i].index = i;
        nvmlDeviceGetUUID(&cards[i], other, sizeof other);
        if (!strcmp(uuid, other)) { *device = &cards[i]; return SUCCESS; }
    }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy_mj) {
    (void)device;
    return get("nvmlDeviceGetTotalEnergyConsumption", energy_mj, NULL);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *power_mw) {
    (void)device;
    return get_unsigned("nvmlDeviceGetPowerUsage", power_mw);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int n, nvmlFieldValue_t *values) {
    (void)device;
    nvmlReturn_t error = set("nvmlDeviceGetFieldValues");
    if (error) return error;
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "field%u", values[i].fieldId);
        step_t step = next(name);
        values[i].nvmlReturn = step.scripted ? step.field_error : NOT_SUPPORTED;
        values[i].valueType = VALUE_TYPE_UNSIGNED_INT;
        values[i].value.ull = 0;
        values[i].value.ui = (unsigned)step.first;
    }
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    unsigned long long now = 0, later = 0;
    (void)device;
    nvmlReturn_t error = get("nvmlDeviceGetMigMode", &now, &later);
    *current = (unsigned)now;
    *pending = (unsigned)later;
    return error;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    (void)device;
    rates->memory = 0;
    return get_unsigned("nvmlDeviceGetUtilizationRates", &rates->gpu);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned *clock_mhz) {
    if (type < 0 || type > 3) return INVALID_ARGUMENT;
    nvmlReturn_t error = get_unsigned("nvmlDeviceGetClockInfo", clock_mhz);
    recall(device);
    if (!error && device->locked_mhz && *clock_mhz > device->locked_mhz) *clock_mhz = device->locked_mhz;
    return error;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius) {
    (void)device;
    return sensor ? INVALID_ARGUMENT : get_unsigned("nvmlDeviceGetTemperature", celsius);
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    unsigned celsius = 0;
    (void)device;
    if (temperature->version != (sizeof *temperature | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t error = get_unsigned("nvmlDeviceGetTemperatureV", &celsius);
    temperature->temperature = (int)celsius;
    return error;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned *limit_mw) {
    nvmlReturn_t error = get_unsigned("nvmlDeviceGetPowerManagementLimit", limit_mw);
    recall(device);
    if (!error && device->limit_mw) *limit_mw = device->limit_mw;
    return error;
}

nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, unsigned *limit_mw) {
    (void)device;
    return get_unsigned("nvmlDeviceGetPowerManagementDefaultLimit", limit_mw);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned *least, unsigned *most) {
    unsigned long long low = 0, high = 0;
    (void)device;
    nvmlReturn_t error = get("nvmlDeviceGetPowerManagementLimitConstraints", &low, &high);
    *least = (unsigned)low;
    *most = (unsigned)high;
    return error;
}

nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned limit_mw) {
    nvmlReturn_t error = set("nvmlDeviceSetPowerManagementLimit");
    if (error) return error;
    recall(device);
    device->limit_mw = limit_mw;
    log_set("limit", limit_mw);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, unsigned least_mhz, unsigned most_mhz) {
    if (least_mhz > most_mhz) return INVALID_ARGUMENT;
    nvmlReturn_t error = set("nvmlDeviceSetGpuLockedClocks");
    if (error) return error;
    recall(device);
    device->locked_mhz = most_mhz;
    log_set("lock", most_mhz);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device) {
    nvmlReturn_t error = set("nvmlDeviceResetGpuLockedClocks");
    if (error) return error;
    recall(device);
    device->locked_mhz = 0;
    log_set("reset", 0);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned *size, unsigned *clocks_mhz) {
    (void)device;
    return list("memory_clocks", size, clocks_mhz);
}

nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned memory_mhz, unsigned *size,
                                                  unsigned *clocks_mhz) {
    (void)device;
    return memory_mhz == 5001 ? list("graphics_clocks", size, clocks_mhz) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos) {
    unsigned pids[64], room = *count < 64 ? *count : 64;
    (void)device;
    nvmlReturn_t error = set("nvmlDeviceGetComputeRunningProcesses");
    if (error) return error;
    error = list("compute_pids", &room, infos ? pids : NULL);
    *count = room;
    for (unsigned i = 0; !error && infos && i < room; i++) infos[i] = (nvmlProcessInfo_t){.pid = pids[i]};
    return error;
}

/* The pairs of `process_utilization`, a sample each, newer than what was seen. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                             unsigned *count, unsigned long long last_seen_us) {
    char line[4096];
    unsigned found = 0, room = samples ? *count : 0;
    nvmlReturn_t error = NOT_SUPPORTED;
    (void)device;
    FILE *script = fopen(getenv("FAKE_NVML_SCRIPT"), "r");
    if (!initialised || !script) abort();
    while (fgets(line, sizeof line, script)) {
        char *word = strtok(line, " \n");
        if (!word || strcmp(word, "process_utilization")) continue;
        for (error = SUCCESS; (word = strtok(NULL, " \n")); found++) {
            step_t step = parse(word);
            if (found < room)
                samples[found] = (nvmlProcessUtilizationSample_t){
                    .pid = (unsigned)step.first, .smUtil = (unsigned)step.second, .timeStamp = last_seen_us + 1000};
        }
    }
    fclose(script);
    *count = found;
    if (error) return error;
    return !found ? NOT_FOUND : found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

static unsigned slices_of(nvmlDevice_t device, unsigned *multiprocessors) {
    unsigned size = SLICES;
    (void)device;
    return list("mig_multiprocessors", &size, multiprocessors) ? 0 : size;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *slices_at_most) {
    (void)device;
    *slices_at_most = SLICES;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *slice) {
    unsigned multiprocessors[SLICES];
    if (index >= slices_of(device, multiprocessors)) return NOT_FOUND;
    *slice = &slices[device->index][index];
    **slice = (struct card){.index = device->index, .slice = index + 1};
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t slice, unsigned *instance) {
    *instance = slice->slice;
    return slice->slice ? SUCCESS : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t slice, nvmlDeviceAttributes_t *attributes) {
    unsigned multiprocessors[SLICES];
    if (!slice->slice || slice->slice > slices_of(slice, multiprocessors)) return INVALID_ARGUMENT;
    *attributes = (nvmlDeviceAttributes_t){.multiprocessorCount = multiprocessors[slice->slice - 1]};
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    *sample = calloc(1, sizeof **sample);
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    free(sample);
    return SUCCESS;
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned instance, nvmlGpmSample_t sample) {
    char name[32];
    unsigned long long percent = 0;
    (void)device;
    snprintf(name, sizeof name, "gpm%u", instance);
    nvmlReturn_t error = get(name, &percent, NULL);
    sample->percent = (double)percent;
    return error;
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *asked) {
    if (asked->version != 1) return ARGUMENT_VERSION_MISMATCH;
    for (unsigned i = 0; i < asked->numMetrics; i++) {
        asked->metrics[i].nvmlReturn = asked->metrics[i].metricId == GPM_SM_UTIL ? SUCCESS : NOT_SUPPORTED;
        asked->metrics[i].value = asked->sample2->percent;
    }
    return SUCCESS;
}
