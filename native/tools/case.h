// A program with its arrays, data and an image in one file, for the tools: int64 items, array count, bytes of data, height,
// width; then int32 program, int64 arrays, data, float32 image. tests/test_binary_native.py writes them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

struct Case {
    std::vector<int32_t> program;
    std::vector<int64_t> arrays;
    std::vector<uint32_t> data;  // words, so that arrays are aligned
    std::vector<float> image;
    int height = 0, width = 0;

    explicit Case(const char* path) {
        std::FILE* file = std::fopen(path, "rb");
        int64_t head[5];
        if (!file || std::fread(head, sizeof head, 1, file) != 1) fail(path);
        program.resize(size_t(head[0])), arrays.resize(size_t(head[1]) * 2), data.resize(size_t(head[2] + 3) / 4);
        height = int(head[3]), width = int(head[4]);
        read(file, path, program.data(), program.size() * 4);
        image.resize(size_t(program[1]) * size_t(height) * size_t(width));
        read(file, path, arrays.data(), arrays.size() * 8);
        read(file, path, data.data(), size_t(head[2]));
        read(file, path, image.data(), image.size() * 4);
        std::fclose(file);
    }

private:
    static void read(std::FILE* file, const char* path, void* to, size_t bytes) {
        if (bytes && std::fread(to, bytes, 1, file) != 1) fail(path);
    }
    [[noreturn]] static void fail(const char* path) {
        std::fprintf(stderr, "cannot read %s\n", path);
        std::exit(2);
    }
};
