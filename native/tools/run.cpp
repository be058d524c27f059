// edgebin-run CASE PATH OUT: runs a case on one code path ("" for the fastest) and writes its outputs as float32.
#include "../edgebin.h"
#include "case.h"

int main(int argc, char** argv) {
    if (argc != 4) return std::fprintf(stderr, "edgebin-run CASE PATH OUT; paths: %s\n", edgebin_paths()), 2;
    Case c(argv[1]);
    char error[300] = "";
    edgebin_net* net = edgebin_open(c.program.data(), int64_t(c.program.size()), c.arrays.data(), int64_t(c.arrays.size() / 2),
                                    c.data.data(), int64_t(c.data.size() * 4), c.height, c.width, argv[2], 2, 1, error, sizeof error);
    if (!net) return std::fprintf(stderr, "%s\n", error), 2;
    std::vector<std::vector<float>> outputs;
    std::vector<float*> places;
    for (int i = 0; i < edgebin_outputs(net); i++) {
        int32_t chw[3];
        edgebin_shape(net, i, chw);
        outputs.emplace_back(size_t(chw[0]) * size_t(chw[1]) * size_t(chw[2]));
    }
    for (auto& o : outputs) places.push_back(o.data());
    edgebin_run(net, c.image.data(), places.data());
    std::FILE* file = std::fopen(argv[3], "wb");
    for (auto& o : outputs)
        if (!file || std::fwrite(o.data(), 4, o.size(), file) != o.size()) return 2;
    std::fclose(file);
    edgebin_close(net);
    return 0;
}
