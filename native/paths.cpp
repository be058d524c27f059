// Which code paths this processor runs.
#include <cstring>

#include "kernels.h"

namespace edgebin {
namespace {

struct Choice {
    const Path* path;
    bool usable;
};

#if defined(__x86_64__)
const Choice choices[] = {
    {&path_avx512vp, __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vpopcntdq")},
    {&path_avx512, bool(__builtin_cpu_supports("avx512bw"))},
    {&path_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
    {&path_portable, true},
};
#elif defined(__aarch64__)
const Choice choices[] = {{&path_neon, true}, {&path_portable, true}};
#else
const Choice choices[] = {{&path_portable, true}};
#endif

}  // namespace

const Path* find_path(const char* name) {
    for (const Choice& c : choices)
        if (c.usable && (!name || !*name || !std::strcmp(name, c.path->name))) return c.path;
    return nullptr;
}

const char* usable_paths() {
    static const struct Names {
        char text[128] = "";
        Names() {
            for (const Choice& c : choices)
                if (c.usable) std::strcat(std::strcat(text, *text ? " " : ""), c.path->name);
        }
    } names;
    return names.text;
}

}  // namespace edgebin
