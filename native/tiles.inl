// The loops around the counting, the same for every path. A path includes this inside its anonymous namespace, after
//   F, with load, store, add, mul, div, fma, splat, from_ints, prelu, at_least: 16 floats, or 16 bits of a comparison
//   WIDE (pixels of a tile), DEEP (groups counted together), Patch<P> (what a tile prepares of its input)
//   Ints: 16 counts, with take and put; count<P, Q>(patch, slice, group, counts): differing bits + start
// What follows a count is inlined, so that counts stay in registers.

#if defined(EDGEBIN_SANITIZE)  // which takes minutes to compile otherwise
#define INLINE inline
#else
#define INLINE inline __attribute__((always_inline))
#endif

template <int P, int Q>
struct Counted {  // values made of counts: scale * count + bias
    const Ints (&at)[P][Q];
    const float *scale, *bias;
    struct Lanes {
        F scale, bias;
    };
    Lanes lanes(ptrdiff_t c) const { return {load(scale + c), load(bias + c)}; }
    F value(int p, int q, const Lanes& l) const { return add(mul(l.scale, from_ints(at[p][q])), l.bias); }
};

template <int P, int Q>
struct Ready {  // values as they are
    const F (&at)[P][Q];
    struct Lanes {};
    Lanes lanes(ptrdiff_t) const { return {}; }
    F value(int p, int q, const Lanes&) const { return at[p][q]; }
};

template <int P, int Q, bool ADD, bool RPRELU, bool ONE, bool THEN, class Values>  // ONE: written and packed once
INLINE void finish_as(const Finish& f, int y, int x, int group, const Values& values) {
    const ptrdiff_t first = ptrdiff_t(group) * GROUP, in_dx = f.add.dx, out_dx = f.out.dx, bits_dx = f.pack[0].out.dx * 2;
    const int packs = f.packs;
    for (int q = 0; q < Q; q++) {
        const ptrdiff_t c = first + q * GROUP;
        const auto lanes = values.lanes(c);
        const F slope = RPRELU ? load(f.slope + c) : splat(0), lift = RPRELU ? load(f.lift + c) : splat(0);
        const F least = ONE ? load(f.pack[0].least + c) : splat(0);
        const float* in = ADD ? f.add.pixel(y, x) + (c < f.add_channels ? c : c % f.add_channels) : nullptr;
        const float* then = THEN ? f.then.pixel(y, x) + (c < f.then_channels ? c : c % f.then_channels) : nullptr;
        float* out = ONE || f.out.at ? f.out.pixel(y, x) + c : nullptr;
        uint16_t* bits = ONE ? reinterpret_cast<uint16_t*>(f.pack[0].out.pixel(y, x)) + group + q : nullptr;
        for (int p = 0; p < P; p++) {
            F t = values.value(p, q, lanes);
            if (ADD) t = add(t, load(in + p * in_dx));
            if (RPRELU) t = add(prelu(t, slope), lift);
            if (THEN) {
                t = add(mul(load(f.then_scale + c), add(t, load(then + p * f.then.dx))), load(f.then_bias + c));
                t = add(prelu(t, load(f.then_slope + c)), load(f.then_lift + c));
            }
            if (ONE) {
                store(out + p * out_dx, t);
                bits[p * bits_dx] = at_least(t, least);
                continue;
            }
            if (out) store(out + p * out_dx, t);
            for (int k = 0; k < packs; k++)
                reinterpret_cast<uint16_t*>(f.pack[k].out.pixel(y, x + p))[group + q] = at_least(t, load(f.pack[k].least + c));
        }
    }
}

template <int P, int Q, bool ONE, class Values>
INLINE void finish_one(const Finish& f, int y, int x, int group, const Values& values) {
    if (f.then.at) return finish_as<P, Q, true, true, ONE, true>(f, y, x, group, values);
    if (f.add.at && f.slope) return finish_as<P, Q, true, true, ONE, false>(f, y, x, group, values);
    if (f.slope) return finish_as<P, Q, false, true, ONE, false>(f, y, x, group, values);
    if (f.add.at) return finish_as<P, Q, true, false, ONE, false>(f, y, x, group, values);
    finish_as<P, Q, false, false, ONE, false>(f, y, x, group, values);
}

// Values [P][Q][16] of channels from 16 * group on, at pixels (y, x), (y, x + 1), ...
template <int P, int Q, class Values>
INLINE void finish(const Finish& f, int y, int x, int group, const Values& values) {
    if (f.out.at && f.packs == 1) return finish_one<P, Q, true>(f, y, x, group, values);
    finish_one<P, Q, false>(f, y, x, group, values);
}

template <int P, int Q>
void keep(const Binary& u, int y, int x, int group, const Ints (&counts)[P][Q]) {
    for (int p = 0; p < P; p++)
        for (int q = 0; q < Q; q++)
            put(u.counts + ((ptrdiff_t(y) * u.width + x + p) * u.groups + group + q) * GROUP, counts[p][q]);
}

template <int P, int Q>
inline void binary_groups(const Binary& u, const Slice& s, const Patch<P>& patch, int group, int y, int x) {
    Ints counts[P][Q];
    count<P, Q>(patch, s, group - s.begin / GROUP, counts);
    if (u.counts) return keep<P, Q>(u, y, x, group, counts);
    finish<P, Q>(u.finish, y, x, group, Counted<P, Q>{counts, u.scale, u.bias});
}

template <int P>
void shared_group(const Binary& u, int group, int y, int x) {  // in which slices meet: every slice gives its lanes
    alignas(64) int32_t lanes[P][GROUP] = {}, part[GROUP];
    Ints counts[P][1];
    for (const Slice* s = u.slice; s != u.slice + u.slices; s++) {
        const int from = s->begin - group * GROUP, to = s->end - group * GROUP;
        if (to <= 0 || from >= GROUP) continue;
        count<P, 1>(Patch<P>(*s, s->in.pixel(y, x)), *s, group - s->begin / GROUP, counts);
        for (int p = 0; p < P; p++) {
            put(part, counts[p][0]);
            for (int i = from > 0 ? from : 0; i < (to < GROUP ? to : GROUP); i++) lanes[p][i] = part[i];
        }
    }
    for (int p = 0; p < P; p++) counts[p][0] = take(lanes[p]);
    if (u.counts) return keep<P, 1>(u, y, x, group, counts);
    finish<P, 1>(u.finish, y, x, group, Counted<P, 1>{counts, u.scale, u.bias});
}

template <int P>
void binary_tile(const Binary& u, int y, int x) {
    for (int i = 0; i < u.slices; i++) {
        const Slice& s = u.slice[i];
        const bool last = i + 1 == u.slices;
        const int low = (s.begin + GROUP - 1) / GROUP, high = last ? u.groups : s.end / GROUP;
        if (low < high) {
            const Patch<P> patch(s, s.in.pixel(y, x));
            int g = low;
            if ((g - s.begin / GROUP) % 2) binary_groups<P, 1>(u, s, patch, g++, y, x);
            for (; g + DEEP <= high; g += DEEP) binary_groups<P, DEEP>(u, s, patch, g, y, x);
            if constexpr (DEEP > 2)
                for (; g + 2 <= high; g += 2) binary_groups<P, 2>(u, s, patch, g, y, x);
            for (; g < high; g++) binary_groups<P, 1>(u, s, patch, g, y, x);
        }
        if (s.begin % GROUP && u.slice[i - 1].begin <= s.begin / GROUP * GROUP) shared_group<P>(u, s.begin / GROUP, y, x);
    }
}

template <int P, class Work>
inline void last_tile(int left, const Work& work) {
    if constexpr (P > 0) {
        if (left == P) return work(std::integral_constant<int, P>());
        last_tile<P - 1>(left, work);
    }
}

template <int P, class Work>
inline void each_tile(int y0, int y1, int width, const Work& work) {  // work(size of the tile, y, x)
    for (int y = y0; y < y1; y++) {
        int x = 0;
        for (; x + P <= width; x += P) work(std::integral_constant<int, P>(), y, x);
        last_tile<P - 1>(width - x, [&](auto size) { work(size, y, x); });
    }
}

void binary(const Binary& u, int y0, int y1) {
    each_tile<WIDE>(y0, y1, u.width, [&](auto size, int y, int x) { binary_tile<size.value>(u, y, x); });
}

template <int P, int Q>
inline void real_groups(const Real& u, int g, int y, int x) {
    F sums[P][Q];
    for (int q = 0; q < Q; q++)
        for (int p = 0; p < P; p++) sums[p][q] = load(u.bias + (g + q) * GROUP);
    const float *in = u.in.pixel(y, x), *weights = u.weights + ptrdiff_t(g) * u.taps * GROUP;
    const ptrdiff_t dx = u.in.dx, next = ptrdiff_t(u.taps) * GROUP;
    for (int k = 0; k < u.taps; k++, weights += GROUP) {
        const float* tap = in + u.offset[k];
        F w[Q];
        for (int q = 0; q < Q; q++) w[q] = load(weights + q * next);
        for (int p = 0; p < P; p++) {
            const F v = splat(tap[p * dx]);
            for (int q = 0; q < Q; q++) sums[p][q] = fma(v, w[q], sums[p][q]);
        }
    }
    finish<P, Q>(u.finish, y, x, g, Ready<P, Q>{sums});
}

void real(const Real& u, int y0, int y1) {
    each_tile<REAL_WIDE>(y0, y1, u.width, [&](auto size, int y, int x) {
        int g = 0;
        for (; g + REAL_DEEP <= u.groups; g += REAL_DEEP) real_groups<size.value, REAL_DEEP>(u, g, y, x);
        for (; g < u.groups; g++) real_groups<size.value, 1>(u, g, y, x);
    });
}

void sum(const Sum& u, int y0, int y1) {
    for (int y = y0; y < y1; y++)
        for (int x = 0; x < u.width; x++)
            for (int g = 0; g < u.groups; g++) {
                F t = load(u.in[0].pixel(y >> u.up[0], x >> u.up[0]) + g * GROUP);
                for (int i = 1; i < u.summands; i++)
                    t = add(t, load(u.in[i].pixel(y >> u.up[i], x >> u.up[i]) + g * GROUP));
                if (u.scale) t = add(mul(load(u.scale + g * GROUP), t), load(u.bias + g * GROUP));
                const F values[1][1] = {{t}};
                finish<1, 1>(u.finish, y, x, g, Ready<1, 1>{values});
            }
}

inline F pooled(const Shortcut& u, int y, int x, int c) {
    if (u.stride == 1) return load(u.in.pixel(y, x) + c);
    const float* a = u.in.pixel(2 * y, 2 * x) + c;
    const F top = add(load(a), load(a + u.in.dx)), low = add(load(a + u.in.dy), load(a + u.in.dy + u.in.dx));
    return mul(add(top, low), splat(0.25f));
}

void shortcut(const Shortcut& u, int y0, int y1) {
    alignas(64) float made[GROUP], from[GROUP];
    const int times = u.before / u.channels;  // channels that one output is the mean of, where there are fewer
    const bool whole = u.before % GROUP == 0 && u.channels % GROUP == 0 && (times == 0 || u.before % u.channels == 0);
    for (int y = y0; y < y1; y++)
        for (int x = 0; x < u.width; x++)
            for (int c = 0; c < u.channels; c += GROUP) {
                F values[1][1];
                if (whole) {
                    F t = pooled(u, y, x, c % u.before);
                    for (int i = 1; i < times; i++) t = add(t, pooled(u, y, x, c + i * u.channels));
                    values[0][0] = times > 1 ? div(t, splat(float(times))) : t;
                } else {
                    for (int o = c; o < c + GROUP; o++) {
                        float t = 0;
                        int n = 0;
                        for (int i = o % u.before; o < u.channels && i < u.before; i += u.channels) {
                            store(from, pooled(u, y, x, i / GROUP * GROUP));
                            t = n++ ? t + from[i % GROUP] : from[i % GROUP];
                        }
                        made[o - c] = n > 1 ? t / float(n) : t;
                    }
                    values[0][0] = load(made);
                }
                finish<1, 1>(u.finish, y, x, c / GROUP, Ready<1, 1>{values});
            }
}
