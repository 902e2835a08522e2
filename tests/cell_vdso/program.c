/* What a program sees of time. Argument "cost": nanoseconds of one clock_gettime. Else lines "name value". */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }
static int64_t told(int clock) { struct timespec t; clock_gettime(clock, &t); return ns(t); }
static int64_t asked(int clock) { struct timespec t; syscall(SYS_clock_gettime, clock, &t); return ns(t); }

static void cost(void) {
    int64_t best = 1LL << 62;
    for (int i = 0; i < 200; i++) {
        int64_t start = told(CLOCK_MONOTONIC);
        for (int j = 0; j < 1000; j++) told(CLOCK_MONOTONIC);
        int64_t spent = told(CLOCK_MONOTONIC) - start;
        if (spent < best) best = spent;
    }
    printf("cost %.1f\n", best / 1001.0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "cost")) { cost(); return 0; }
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                                 CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
    int64_t end = told(CLOCK_MONOTONIC) + 1500000000LL, last = 0, back = 0, apart = 0;
    do {
        for (int i = 0; i < 1000; i++) {
            int64_t now = told(CLOCK_MONOTONIC);
            if (now < last && last - now > back) back = last - now;
            last = now;
        }
        for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
            int64_t before = told(clocks[i]), between = asked(clocks[i]), after = told(clocks[i]);
            if (before - between > apart) apart = before - between;
            if (between - after > apart) apart = between - after;
        }
    } while (last < end);
    struct timespec t = {1000000000, 0};
    struct timeval v;
    clock_settime(CLOCK_REALTIME, &t);
    gettimeofday(&v, 0);
    printf("vdso %d\nback %lld\napart %lld\nset %lld %lld %lld\n", getauxval(AT_SYSINFO_EHDR) != 0, (long long)back,
           (long long)apart, (long long)time(0), (long long)v.tv_sec, told(CLOCK_REALTIME) / 1000000000LL);
    return 0;
}
