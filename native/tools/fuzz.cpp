// edgebin-fuzz ROUNDS SEED CASE...: changes numbers of the programs and of the tables of arrays at random, opens the result
// on every code path and runs what is accepted. Built with the sanitizers, any fault of memory ends it.
#include <cstring>
#include <random>
#include <sstream>
#include <string>

#include "../edgebin.h"
#include "case.h"

int main(int argc, char** argv) {
    if (argc < 4) return std::fprintf(stderr, "edgebin-fuzz ROUNDS SEED CASE...\n"), 2;
    std::vector<Case> cases;
    for (int i = 3; i < argc; i++) cases.emplace_back(argv[i]);
    std::vector<std::string> paths;
    std::istringstream names(edgebin_paths());
    for (std::string name; names >> name;) paths.push_back(name);
    std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
    auto below = [&](uint64_t n) { return n ? random() % n : 0; };
    const int32_t odd[] = {0, 1, -1, 2, 3, 5, 16, 17, 31, 32, 33, 64, 4096, 1 << 20, 2147483647, -2147483647 - 1};
    const int64_t far[] = {0, 1, -1, 4, 60, int64_t(1) << 31, int64_t(1) << 62, INT64_MAX, INT64_MIN};
    int opened = 0;
    const int rounds = std::atoi(argv[1]);
    for (int round = 0; round < rounds; round++) {
        Case c = cases[below(cases.size())];
        for (uint64_t k = below(4); k > 0; k--) {
            int32_t& n = c.program[below(c.program.size())];
            if (below(2)) n = odd[below(sizeof odd / sizeof *odd)];
            else n += int32_t(below(5)) - 2;
        }
        if (!c.arrays.empty() && !below(3)) c.arrays[below(c.arrays.size())] = far[below(sizeof far / sizeof *far)];
        if (!below(8)) c.program.resize(below(c.program.size() + 1));
        if (!below(4)) c.height = int(below(40)), c.width = int(below(40));
        char error[64];
        edgebin_net* net = edgebin_open(c.program.data(), int64_t(c.program.size()), c.arrays.data(), int64_t(c.arrays.size() / 2),
                                        c.data.data(), int64_t(c.data.size() * 4), c.height, c.width,
                                        paths[below(paths.size())].c_str(), int(1 + below(3)), int(below(2)), error, sizeof error);
        if (!net) continue;
        if (edgebin_memory(net) < int64_t(1) << 26) {
            opened++;
            std::vector<std::vector<float>> outputs;
            std::vector<float*> places;
            for (int i = 0; i < edgebin_outputs(net); i++) {
                int32_t chw[3];
                edgebin_shape(net, i, chw);
                outputs.emplace_back(size_t(chw[0]) * size_t(chw[1]) * size_t(chw[2]));
            }
            for (auto& o : outputs) places.push_back(o.data());
            std::vector<float> image(size_t(c.program[1]) * size_t(c.height) * size_t(c.width), 0.5f);
            edgebin_run(net, image.data(), places.data());
        }
        edgebin_close(net);
    }
    std::printf("%d rounds, %d accepted and run\n", rounds, opened);
    return 0;
}
