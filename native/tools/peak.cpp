// edgebin-peak: how many pairs of bits (10^9 a second) each way of counting compares on one core, from registers and the first cache.
#include <time.h>

#include <cstdint>
#include <cstdio>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int ROUNDS = 100000;

double now() {  // processor time: others may use this core too
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double best(double bits, void (*loop)()) {  // 10^9 bits a second, in the fastest of many calls
    double least = 1e30;
    for (int i = 0; i < 300; i++) {
        const double begin = now();
        loop();
        const double took = now() - begin;
        least = took < least ? took : least;
    }
    return bits / least / 1e9;
}

void portable() {
    uint64_t a[4] = {1, 2, 3, 4}, sums[4] = {};
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < 4; k++) {
            uint64_t v = a[k] ^ uint64_t(i);
            v -= v >> 1 & 0x5555555555555555;
            v = (v & 0x3333333333333333) + (v >> 2 & 0x3333333333333333);
            sums[k] += ((v + (v >> 4)) & 0x0F0F0F0F0F0F0F0F) * 0x0101010101010101 >> 56;
            asm volatile("" : "+r"(sums[k]));
        }
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) void avx512vp() {
    static const int words[16] = {1, 22, 333, 4444, 55555, 6, 77, 888, 9999, 10, 11, 12, 13, 14, 15, 16};
    __m512i sums[12];
    for (auto& s : sums) s = _mm512_setzero_si512();
    for (int i = 0; i < ROUNDS; i++) {
        __m512i w = _mm512_set1_epi32(i);
        asm volatile("" : "+v"(w));
#pragma GCC unroll 12
        for (int k = 0; k < 12; k++)
            sums[k] = _mm512_add_epi32(sums[k], _mm512_popcnt_epi32(_mm512_xor_si512(w, _mm512_set1_epi32(words[k]))));
    }
    __m512i all = sums[0];
    for (const auto& s : sums) all = _mm512_xor_si512(all, s);
    asm volatile("" ::"v"(all));
}

#define CARRY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xE8)
#define ODD(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
__attribute__((target("avx512f,avx512bw"))) void avx512() {  // carry-save adders: per 8 words 8 xor, 14 ternary, one count
    __m512i ones = _mm512_set1_epi32(1), twos = ones, fours = ones, sum = ones, w = _mm512_set1_epi32(1234567), low = _mm512_set1_epi8(15);
    __m512i x[8];
    for (int i = 0; i < 8; i++) x[i] = _mm512_set1_epi32(i * 77);
    for (int i = 0; i < ROUNDS; i++) {
        __m512i v[8];
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            v[k] = _mm512_xor_si512(x[k], w);
            asm volatile("" : "+v"(v[k]));
        }
        __m512i a = CARRY(ones, v[0], v[1]);
        ones = ODD(ones, v[0], v[1]);
        __m512i b = CARRY(ones, v[2], v[3]);
        ones = ODD(ones, v[2], v[3]);
        __m512i c = CARRY(twos, a, b);
        twos = ODD(twos, a, b);
        a = CARRY(ones, v[4], v[5]), ones = ODD(ones, v[4], v[5]);
        b = CARRY(ones, v[6], v[7]), ones = ODD(ones, v[6], v[7]);
        __m512i d = CARRY(twos, a, b);
        twos = ODD(twos, a, b);
        __m512i e = CARRY(fours, c, d);
        fours = ODD(fours, c, d);
        sum = _mm512_add_epi8(sum, _mm512_add_epi8(_mm512_shuffle_epi8(w, _mm512_and_si512(e, low)),
                                                   _mm512_shuffle_epi8(w, _mm512_and_si512(_mm512_srli_epi16(e, 4), low))));
    }
    asm volatile("" ::"v"(sum), "v"(ones), "v"(twos), "v"(fours));
}

__attribute__((target("avx2"))) void avx2() {
    __m256i sums[12], table = _mm256_set1_epi8(3), w = _mm256_set1_epi8(5);
    for (auto& s : sums) s = table;
    for (int i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
        for (auto& s : sums) {
            __m256i v = _mm256_shuffle_epi8(table, w);
            asm volatile("" : "+x"(v));
            s = _mm256_add_epi8(s, v);
            asm volatile("" : "+x"(s));
        }
}
#endif

}  // namespace

int main() {
    std::printf("{\"portable\": %.1f", best(64.0 * 4 * ROUNDS, portable));
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) std::printf(", \"avx2\": %.1f", best(128.0 * 12 * ROUNDS, avx2));
    if (__builtin_cpu_supports("avx512bw")) std::printf(", \"avx512\": %.1f", best(512.0 * 8 * ROUNDS, avx512));
    if (__builtin_cpu_supports("avx512vpopcntdq")) std::printf(", \"avx512vp\": %.1f", best(512.0 * 12 * ROUNDS, avx512vp));
#endif
    std::printf("}\n");
}
