// Weights of 16 channels side by side: [group][words][16].
size_t lanes_size(int words, int groups) { return size_t(words) * groups * GROUP * sizeof(uint32_t); }

void lanes(const uint32_t* plain, int words, int channels, void* weights) {
    uint32_t* out = static_cast<uint32_t*>(weights);
    for (int o = 0; o < (channels + GROUP - 1) / GROUP * GROUP; o++)
        for (int k = 0; k < words; k++)
            out[(size_t(o / GROUP) * words + k) * GROUP + o % GROUP] = o < channels ? plain[size_t(o) * words + k] : 0;
}
