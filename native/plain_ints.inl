// 16 counts as an array.
struct Ints {
    alignas(64) int32_t at[GROUP];
};
inline Ints take(const int32_t* a) {
    Ints v;
    for (int i = 0; i < GROUP; i++) v.at[i] = a[i];
    return v;
}
inline void put(int32_t* a, const Ints& v) {
    for (int i = 0; i < GROUP; i++) a[i] = v.at[i];
}
