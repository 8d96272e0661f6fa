// SPDX-License-Identifier: Apache-2.0
// Hides instruction sets from what this process loads next: the CPUID instruction traps (Linux,
// ARCH_SET_CPUID, also in threads started later) and is answered here, with the bits of newer
// instruction sets cleared. Runtimes that choose their kernels by CPUID then run as on an older
// CPU. Built and called by isa.py.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };  // the highest that may be seen

static int g_highest;

static int trap_cpuid(int trap) {
  return (int)syscall(SYS_arch_prctl, ARCH_SET_CPUID, (long)!trap);
}

// Bits by leaf and register, named as in the Intel manual under CPUID.
#define BIT(n) (1u << (n))
// 1, ECX: FMA, XSAVE, OSXSAVE, AVX, F16C.
#define AVX_1C (BIT(12) | BIT(26) | BIT(27) | BIT(28) | BIT(29))
// 7, EBX: AVX2; 7, ECX: VAES, VPCLMULQDQ.
#define AVX2_7B BIT(5)
#define AVX2_7C (BIT(9) | BIT(10))
// 7, EBX: AVX512F, DQ, IFMA, PF, ER, CD, BW, VL.
#define AVX512_7B (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
// 7, ECX: AVX512_VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
#define AVX512_7C (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
// 7, EDX: AVX512_4VNNIW, 4FMAPS, VP2INTERSECT, FP16.
#define AVX512_7D (BIT(2) | BIT(3) | BIT(8) | BIT(23))
// 7, EDX: AMX_BF16, AMX_TILE, AMX_INT8.
#define AMX_7D (BIT(22) | BIT(24) | BIT(25))

static void hide(uint32_t leaf, uint32_t subleaf, uint32_t* ebx, uint32_t* ecx, uint32_t* edx) {
  if (leaf == 1 && g_highest < kAvx2) *ecx &= ~AVX_1C;
  if (leaf != 7 || subleaf != 0) return;
  *edx &= ~AMX_7D;
  if (g_highest < kAvx512) {
    *ebx &= ~AVX512_7B;
    *ecx &= ~AVX512_7C;
    *edx &= ~AVX512_7D;
  }
  if (g_highest < kAvx2) {
    *ebx &= ~AVX2_7B;
    *ecx &= ~AVX2_7C;
  }
}

static void answer(int number, siginfo_t* info, void* context) {
  (void)info;
  greg_t* r = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint8_t* code = (const uint8_t*)r[REG_RIP];
  if (code[0] != 0x0f || code[1] != 0xa2) {  // a fault of another kind
    signal(number, SIG_DFL);                 // comes again, and then ends the process
    return;
  }
  const uint32_t leaf = (uint32_t)r[REG_RAX], subleaf = (uint32_t)r[REG_RCX];
  uint32_t eax, ebx, ecx, edx;
  trap_cpuid(0);
  __asm__ volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(leaf), "c"(subleaf));
  trap_cpuid(1);
  if (leaf == 7 && subleaf == 1) eax = ebx = ecx = edx = 0;  // AVX_VNNI, AVX512_BF16 and later
  hide(leaf, subleaf, &ebx, &ecx, &edx);
  r[REG_RAX] = eax;
  r[REG_RBX] = ebx;
  r[REG_RCX] = ecx;
  r[REG_RDX] = edx;
  r[REG_RIP] += 2;
}

// 0, or -1 where the CPU or the kernel cannot trap CPUID.
int pn_hide_above(int highest) {
  struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = answer};
  g_highest = highest;
  return sigaction(SIGSEGV, &action, 0) == 0 && trap_cpuid(1) == 0 ? 0 : -1;
}
