/* Threads, signals and timers as programs use them. Prints the same lines on Linux and in a cell. */
#define _GNU_SOURCE
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t hits, last, code;
static void count(int sig, siginfo_t *info, void *context) { hits++; last = sig; code = info->si_code; (void)context; }
static void handle(int sig, int flags, void (*f)(int, siginfo_t *, void *)) {
  struct sigaction act = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
  sigaction(sig, &act, 0);
}

/* -- threads ------------------------------------------------------------------------------------------------- */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static long total; static int whose; static __thread int local = 5;
static void *add(void *n) {
  for (int i = 0; i < 20000; i++) { pthread_mutex_lock(&mutex); total++; pthread_mutex_unlock(&mutex); }
  local += (int)(intptr_t)n;
  return (void *)(intptr_t)local;
}
static void *pingpong(void *n) {
  int me = (int)(intptr_t)n;
  for (int i = 0; i < 500; i++) {
    pthread_mutex_lock(&mutex);
    while (whose != me) pthread_cond_wait(&turn, &mutex);
    whose = !me;
    pthread_cond_broadcast(&turn);
    pthread_mutex_unlock(&mutex);
  }
  return 0;
}
static void *die_holding(void *m) { pthread_mutex_lock(m); return 0; }
static void *lock_unlock(void *m) { for (int i = 0; i < 200; i++) { pthread_mutex_lock(m); sched_yield(); total++; pthread_mutex_unlock(m); } return 0; }
static void threads(void) {
  pthread_t t[8]; void *result; long sum = 0;
  for (intptr_t i = 0; i < 8; i++) pthread_create(&t[i], 0, add, (void *)i);
  for (int i = 0; i < 8; i++) { pthread_join(t[i], &result); sum += (intptr_t)result; }
  printf("threads: total %ld, locals %ld, mine %d\n", total, sum, local);
  for (intptr_t i = 0; i < 2; i++) pthread_create(&t[i], 0, pingpong, (void *)i);
  for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
  printf("condition variables: whose %d\n", whose);
  pthread_mutexattr_t attr; pthread_mutex_t robust, inherit;
  pthread_mutexattr_init(&attr); pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST); pthread_mutex_init(&robust, &attr);
  pthread_create(&t[0], 0, die_holding, &robust); pthread_join(t[0], 0);
  printf("robust: %s\n", strerror(pthread_mutex_lock(&robust)));
  pthread_mutexattr_init(&attr); pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT); pthread_mutex_init(&inherit, &attr);
  total = 0;
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, lock_unlock, &inherit);
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  printf("priority inheritance: %ld\n", total);
  struct timespec at; clock_gettime(CLOCK_REALTIME, &at); at.tv_nsec += 20000000; if (at.tv_nsec >= 1000000000) { at.tv_sec++; at.tv_nsec -= 1000000000; }
  sem_t sem; sem_init(&sem, 0, 0);
  int got = sem_timedwait(&sem, &at);
  printf("sem_timedwait: %d %s\n", got, strerror(errno));
  pthread_mutex_lock(&mutex);
  got = pthread_cond_timedwait(&turn, &mutex, &at);
  printf("cond_timedwait: %s\n", strerror(got));
  pthread_mutex_unlock(&mutex);
}

/* -- signals ------------------------------------------------------------------------------------------------- */
static void touch_fpu(int sig, siginfo_t *info, void *context) {
  volatile double x = 3.5; fesetround(FE_UPWARD); x = x / 7; hits++; (void)sig; (void)info; (void)context;
}
static sigjmp_buf back;
static void on_fault(int sig, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  printf("fault: signal %d, code %d, address %p, trap %lld\n", sig, info->si_code, info->si_code == 1 ? info->si_addr : 0, (long long)uc->uc_mcontext.gregs[REG_TRAPNO]);
  siglongjmp(back, 1);
}
static void skip_two(int sig, siginfo_t *info, void *context) {
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; hits = 100 + sig; (void)info;
}
static int deep(int n) { volatile char room[4096]; room[0] = (char)n; return deep(n + 1) + room[0]; }
static void overflowed(int sig, siginfo_t *info, void *context) { (void)info; (void)context; hits = sig; siglongjmp(back, 2); }
static void signals(void) {
  handle(SIGUSR1, 0, count);
  raise(SIGUSR1); kill(getpid(), SIGUSR1);
  printf("raise and kill: %d hits, last %d, code %d\n", hits, last, code);
  union sigval value = {.sival_int = 42};
  sigset_t set, old; sigemptyset(&set); sigaddset(&set, SIGRTMIN + 1); sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, &old);
  for (int i = 0; i < 3; i++) { value.sival_int = i; sigqueue(getpid(), SIGRTMIN + 1, value); }
  kill(getpid(), SIGUSR2); kill(getpid(), SIGUSR2);
  siginfo_t info; struct timespec zero = {0, 0}; int sig;
  while ((sig = sigtimedwait(&set, &info, &zero)) > 0) printf("taken: %d code %d value %d\n", sig == SIGUSR2 ? 1 : 2, info.si_code, sig == SIGUSR2 ? 0 : info.si_value.sival_int);
  sigprocmask(SIG_SETMASK, &old, 0);
  double a = 1.25, b = 2.5; uint64_t v[4] = {1, 2, 3, 4}, out[4];
  handle(SIGUSR1, 0, touch_fpu);
  long pid = getpid();
  asm volatile("movdqu (%2), %%xmm14\n movdqu 16(%2), %%xmm15\n mov $39, %%eax\n syscall\n mov %%rax, %%rdi\n mov $10, %%esi\n mov $62, %%eax\n syscall\n"
               "movdqu %%xmm14, (%3)\n movdqu %%xmm15, 16(%3)" : "+m"(v), "=m"(out) : "r"(v), "r"(out) : "rax", "rcx", "rdi", "rsi", "r11", "xmm14", "xmm15", "memory");
  printf("fpu: %g %d %d %d\n", a * b, !memcmp(v, out, 32), fegetround() == FE_TONEAREST, pid == getpid());
  handle(SIGSEGV, 0, on_fault);
  if (!sigsetjmp(back, 1)) *(volatile int *)0x10 = 1;
  char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!sigsetjmp(back, 1)) page[5] = 1;
  if (!sigsetjmp(back, 1)) ((void (*)(void))page)();
  if (!sigsetjmp(back, 1)) *(volatile int *)0x8000000000000000 = 1;
  handle(SIGFPE, 0, on_fault);
  volatile int nought = 0;
  if (!sigsetjmp(back, 1)) nought = 1 / nought;
  handle(SIGILL, 0, skip_two);
  asm volatile("ud2");
  printf("skipped an instruction: %d\n", hits);
  handle(SIGTRAP, 0, count);
  asm volatile("int3");
  printf("breakpoint: last %d\n", last);
  stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&alternate, 0);
  handle(SIGSEGV, SA_ONSTACK, overflowed);
  if (!sigsetjmp(back, 1)) deep(0);
  printf("stack overflow survived: %d\n", hits);
}

/* -- interrupted calls and timers ---------------------------------------------------------------------------- */
static pthread_t sleeper; static sem_t about;
static void *interrupter(void *arg) {
  struct timespec nap = {0, 20000000}; sem_wait(&about); nanosleep(&nap, 0); pthread_kill(sleeper, SIGUSR1); (void)arg; return 0;
}
static void notified(union sigval value) { *(int *)value.sival_ptr += 1; sem_post(&about); }
static void interruptions(void) {
  pthread_t t; struct timespec ten = {10, 0}, rest = {0, 0}; char byte; int p[2];
  sleeper = pthread_self(); sem_init(&about, 0, 0); handle(SIGUSR1, 0, count);
  hits = 0; pthread_create(&t, 0, interrupter, 0); sem_post(&about);
  int got = nanosleep(&ten, &rest);
  printf("nanosleep: %d %s, rest %d, hits %d\n", got, strerror(errno), rest.tv_sec == 9, hits);
  pthread_join(t, 0); pthread_create(&t, 0, interrupter, 0); sem_post(&about);
  if (pipe(p)) return;
  got = (int)read(p[0], &byte, 1);
  printf("read: %d %s, hits %d\n", got, strerror(errno), hits);
  pthread_join(t, 0); pthread_create(&t, 0, interrupter, 0); sem_post(&about);
  got = pause();
  printf("pause: %d %s, hits %d\n", got, strerror(errno), hits);
  pthread_join(t, 0);
  sigset_t all; sigfillset(&all); sigset_t before; pthread_sigmask(SIG_SETMASK, &all, &before);
  raise(SIGUSR1);
  got = sigsuspend(&before);
  printf("sigsuspend with a signal pending: %d %s, hits %d\n", got, strerror(errno), hits);
  pthread_sigmask(SIG_SETMASK, &before, 0);
  handle(SIGALRM, 0, count);
  struct itimerval beat = {{0, 5000}, {0, 5000}}, none = {{0, 0}, {0, 0}};
  hits = 0; setitimer(ITIMER_REAL, &beat, 0);
  while (hits < 5) { }
  setitimer(ITIMER_REAL, &none, 0);
  printf("itimer interrupts a loop: %d, code %d\n", last, code);
  handle(SIGPROF, 0, count); handle(SIGVTALRM, 0, count);
  hits = 0; setitimer(ITIMER_PROF, &beat, 0); while (hits < 2) { } setitimer(ITIMER_PROF, &none, 0);
  printf("cpu itimer: %d\n", last);
  timer_t timer; struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 7};
  struct itimerspec soon = {{0, 0}, {0, 3000000}};
  sigset_t set; sigemptyset(&set); sigaddset(&set, SIGRTMIN); sigprocmask(SIG_BLOCK, &set, 0);
  siginfo_t info; timer_create(CLOCK_MONOTONIC, &event, &timer); timer_settime(timer, 0, &soon, 0); sigwaitinfo(&set, &info);
  printf("timer: code %d value %d overrun %d\n", info.si_code, info.si_value.sival_int, timer_getoverrun(timer));
  timer_delete(timer);
  int called = 0; struct sigevent call = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notified, .sigev_value.sival_ptr = &called};
  timer_create(CLOCK_REALTIME, &call, &timer); timer_settime(timer, 0, &soon, 0); sem_wait(&about);
  printf("timer thread: %d\n", called);
  timer_delete(timer);
  struct timespec cpu; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  clockid_t id; pthread_getcpuclockid(pthread_self(), &id); struct timespec same; clock_gettime(id, &same);
  printf("thread cpu clock: %d\n", same.tv_sec > cpu.tv_sec || (same.tv_sec == cpu.tv_sec && same.tv_nsec >= cpu.tv_nsec));
}

static void *outlive(void *arg) { usleep(20000); puts("still here"); return arg; }

int main(int argc, char **argv) {
  setvbuf(stdout, 0, _IOLBF, 0);
  if (argc > 1 && !strcmp(argv[1], "abort")) abort();
  if (argc > 1 && !strcmp(argv[1], "null")) return *(volatile int *)0;
  if (argc > 1 && !strcmp(argv[1], "leader")) { pthread_t t; pthread_create(&t, 0, outlive, 0); pthread_exit(0); }
  threads(); signals(); interruptions();
  int got = (int)waitpid(-1, 0, 0);
  printf("no children: %d %s\n", got, strerror(errno));
  return 7;
}
