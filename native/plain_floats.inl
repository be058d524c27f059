// 16 floats as an array.
struct F {
    float at[GROUP];
};
template <class Work>
inline F each(const Work& work) {
    F out;
    for (int i = 0; i < GROUP; i++) out.at[i] = work(i);
    return out;
}
inline F load(const float* a) { return each([&](int i) { return a[i]; }); }
inline void store(float* a, const F& v) {
    for (int i = 0; i < GROUP; i++) a[i] = v.at[i];
}
inline F splat(float v) { return each([&](int) { return v; }); }
inline F add(const F& a, const F& b) { return each([&](int i) { return a.at[i] + b.at[i]; }); }
inline F mul(const F& a, const F& b) { return each([&](int i) { return a.at[i] * b.at[i]; }); }
inline F div(const F& a, const F& b) { return each([&](int i) { return a.at[i] / b.at[i]; }); }
inline F fma(const F& a, const F& b, const F& c) { return each([&](int i) { return std::fma(a.at[i], b.at[i], c.at[i]); }); }
#include "plain_ints.inl"
inline F from_ints(const Ints& v) { return each([&](int i) { return float(v.at[i]); }); }
inline F prelu(const F& t, const F& slope) { return each([&](int i) { return t.at[i] > 0 ? t.at[i] : t.at[i] * slope.at[i]; }); }
inline uint16_t at_least(const F& t, const F& least) {
    uint16_t bits = 0;
    for (int i = 0; i < GROUP; i++) bits |= uint16_t(uint16_t(t.at[i] >= least.at[i]) << i);
    return bits;
}
