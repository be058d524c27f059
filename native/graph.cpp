#include "graph.h"

#include "kernels.h"

namespace edgebin {
namespace {

constexpr int MOST_CHANNELS = 4096, MOST_PIXELS = 1 << 24, MOST_OPS = 20000, MOST_KERNEL = 7;
constexpr int64_t MOST_VALUES = int64_t(1) << 28;  // numbers of one map

[[noreturn]] void bad(const std::string& what) { throw Bad(what); }

class Reader {
public:
    Reader(const int32_t* at, int64_t items, const Arrays& arrays, int height, int width)
        : at_(at), end_(at + items), arrays_(arrays), height_(height), width_(width) {
        if (items < 0 || arrays.count < 0 || arrays.bytes < 0) bad("a negative size");
        if (height < 1 || width < 1 || int64_t(height) * width > MOST_PIXELS)
            bad("the input cannot be " + std::to_string(height) + "x" + std::to_string(width));
    }

    Graph graph() {
        bool outputs = false;
        while (at_ != end_) {
            if (int(g_.ops.size()) == MOST_OPS) bad("too many operations");
            Op op;
            const int code = number(INPUT, OUTPUT, "an operation");
            op.kind = Kind(code);
            if (outputs && op.kind != OUTPUT) bad("an operation after the outputs");
            outputs = op.kind == OUTPUT;
            fill(op);
            if (op.kind != OUTPUT) check_size(op);
            g_.ops.push_back(std::move(op));
            g_.packs.emplace_back();
        }
        if (g_.ops.empty() || g_.ops[0].kind != INPUT) bad("the first operation is not the input");
        if (!outputs) bad("there is no output");
        return std::move(g_);
    }

private:
    int next() {
        if (at_ == end_) bad("the program ends in the middle of an operation");
        return *at_++;
    }

    int number(int low, int high, const char* what) {
        const int n = next();
        if (n < low || n > high) bad(std::string(what) + " cannot be " + std::to_string(n));
        return n;
    }

    int value() {
        const int v = number(0, int(g_.ops.size()) - 1, "an earlier value");
        if (g_.ops[v].kind == OUTPUT) bad("an output is no value");
        return v;
    }

    const void* array(int64_t items, const char* what, bool optional = false) {
        const int a = next();
        if (a == -1 && optional) return nullptr;
        if (a < 0 || a >= arrays_.count) bad(std::string(what) + ": there is no array " + std::to_string(a));
        const int64_t offset = arrays_.table[2 * a], count = arrays_.table[2 * a + 1];
        if (offset < 0 || offset % 4 || offset > arrays_.bytes || count < 0 || count > (arrays_.bytes - offset) / 4)
            bad(std::string(what) + ": its array lies outside the data");
        if (count != items)
            bad(std::string(what) + " has " + std::to_string(count) + " items, not " + std::to_string(items));
        return arrays_.data + offset;
    }

    const float* floats(int64_t items, const char* what, bool optional = false) {
        return static_cast<const float*>(array(items, what, optional));
    }

    const Op& made(int v) const { return g_.ops[v]; }

    void rprelu(Op& op) {
        op.slope = floats(op.channels, "slope", true);
        op.lift = floats(op.channels, "lift", true);
        if (!op.slope != !op.lift) bad("slope and lift come together");
    }

    void window(Window& w, int in) {
        w.in = in;
        w.channels = number(1, MOST_CHANNELS, "channels");
        w.kernel = number(1, MOST_KERNEL, "a kernel");
        w.stride = number(1, 2, "a stride");
        w.dilation = number(1, 8, "a dilation");
        if (w.kernel % 2 == 0) bad("a kernel cannot be " + std::to_string(w.kernel));
    }

    static int strided(int size, int stride) { return (size - 1) / stride + 1; }

    void place(Op& op, const Window& w) {  // the size of a convolution's output; all slices agree
        const int h = strided(made(w.in).height, w.stride), x = strided(made(w.in).width, w.stride);
        if (op.height && (op.height != h || op.width != x)) bad("slices of different sizes");
        op.height = h, op.width = x;
    }

    int pack(int v, const float* least) {
        auto& packs = g_.packs[v];
        for (size_t i = 0; i < packs.size(); i++)
            if (packs[i] == least) return int(i);
        if (packs.size() == MOST_PACKS) bad("a value is compared with too many thresholds");
        packs.push_back(least);
        return int(packs.size()) - 1;
    }

    int addend() {
        const int v = number(-1, int(g_.ops.size()) - 1, "what is added");
        if (v >= 0 && made(v).kind == OUTPUT) bad("an output is no value");
        return v;
    }

    void check_added(const Op& op, int v) const {
        if (v < 0) return;
        const Op& a = made(v);
        const bool repeated = op.channels % a.channels == 0 && a.channels % GROUP == 0;
        if (a.height != op.height || a.width != op.width || (a.channels != op.channels && !repeated))
            bad("what is added has another shape");
    }

    void then(Op& op) {
        op.then = addend();
        const bool none = op.then < 0;
        op.then_scale = floats(op.channels, "scale", none), op.then_bias = floats(op.channels, "bias", none);
        op.then_slope = floats(op.channels, "slope", none), op.then_lift = floats(op.channels, "lift", none);
        if (!none && (op.add < 0 || !op.slope)) bad("a second map without a first");
        check_added(op, op.add), check_added(op, op.then);
    }

    void fill(Op& op) {
        switch (op.kind) {
            case INPUT:
                if (!g_.ops.empty()) bad("a second input");
                op.channels = number(1, MOST_CHANNELS, "channels of the input");
                op.height = height_, op.width = width_;
                return;
            case REAL: return real(op);
            case BINARY: return binary(op);
            case SUM: return sum(op);
            case SHORTCUT: return shortcut(op);
            case CONCAT: return concat(op);
            case MEANS: return means(op);
            case SCALE: {
                op.in = {value()}, op.in.push_back(value());
                const Op &x = made(op.in[0]), &gains = made(op.in[1]);
                if (gains.kind != MEANS || gains.channels != x.channels) bad("gains that do not fit");
                same(op, x, x.channels);
                return;
            }
            case MAXPOOL: {
                op.in = {value()}, op.kernel = number(1, MOST_KERNEL, "a kernel"), op.stride = number(1, 2, "a stride");
                if (op.kernel % 2 == 0) bad("a kernel cannot be " + std::to_string(op.kernel));
                const Op& x = made(op.in[0]);
                op.channels = x.channels, op.height = strided(x.height, op.stride), op.width = strided(x.width, op.stride);
                return;
            }
            case OUTPUT: op.in = {value()}; return;
        }
    }

    static void same(Op& op, const Op& like, int channels) {
        op.channels = channels, op.height = like.height, op.width = like.width;
    }

    void real(Op& op) {
        window(op.window, value());
        const Window& w = op.window;
        op.in = {w.in}, op.channels = w.channels;
        place(op, w);
        op.weights = floats(int64_t(w.channels) * w.kernel * w.kernel * made(w.in).channels, "real weights");
        op.bias = floats(w.channels, "bias");
        op.add = addend();
        rprelu(op), then(op);
    }

    void binary(Op& op) {
        op.add = addend();
        const int32_t* later = at_;  // their length is known after the slices
        for (int i = 0; i < 9; i++) next();
        const int slices = number(1, 16, "slices");
        for (int i = 0; i < slices; i++) {
            SliceOp s;
            const int in = value(), c = made(in).channels;
            s.least = floats(c, "thresholds");
            window(s, in);
            const int64_t words = int64_t(s.kernel) * s.kernel * ((c + 31) / 32);
            if (words > MOST_WORDS) bad("a binary convolution over " + std::to_string(c) + " channels is too large");
            s.weights = static_cast<const uint32_t*>(array(s.channels * words, "binary weights"));
            s.pack = pack(in, s.least);
            op.channels += s.channels;
            place(op, s);
            op.slices.push_back(s);
        }
        if (op.channels > MOST_CHANNELS) bad("too many channels");
        const int32_t* after = at_;
        at_ = later;
        rprelu(op);
        op.scale = floats(op.channels, "scale"), op.bias = floats(op.channels, "bias");
        then(op);
        at_ = after;
    }

    void sum(Op& op) {
        const int32_t* later = at_;
        for (int i = 0; i < 4; i++) next();
        const int summands = number(1, MOST_SUMMANDS, "summands");
        for (int i = 0; i < summands; i++) {
            const int in = value(), up = number(0, 5, "up");
            const Op& x = made(in);
            const int h = x.height << up, w = x.width << up;
            if (i && (x.channels != op.channels || h != op.height || w != op.width))
                bad("summands of different shapes");
            op.channels = x.channels, op.height = h, op.width = w;
            op.in.push_back(in), op.up.push_back(up);
        }
        const int32_t* after = at_;
        at_ = later;
        rprelu(op);
        op.scale = floats(op.channels, "scale", true), op.bias = floats(op.channels, "bias", true);
        if (!op.scale != !op.bias) bad("scale and bias come together");
        at_ = after;
    }

    void shortcut(Op& op) {
        const int in = value();
        const Op& x = made(in);
        op.in = {in}, op.channels = number(1, MOST_CHANNELS, "channels"), op.stride = number(1, 2, "a stride");
        if (op.stride == 2 && (x.height % 2 || x.width % 2)) bad("a map of odd size is halved");
        op.height = x.height / op.stride, op.width = x.width / op.stride;
    }

    void concat(Op& op) {
        const int count = number(1, 64, "maps side by side");
        for (int i = 0; i < count; i++) {
            const int in = value();
            const Op& x = made(in);
            if (i && (x.height != op.height || x.width != op.width)) bad("maps of different sizes side by side");
            same(op, x, op.channels + x.channels);
            op.in.push_back(in);
        }
        if (op.channels > MOST_CHANNELS) bad("too many channels");
    }

    void means(Op& op) {
        const int in = value();
        const int64_t c = made(in).channels;
        op.in = {in}, op.channels = int(c), op.height = op.width = 1;
        op.hidden = number(1, MOST_CHANNELS, "hidden channels");
        op.weights = floats(op.hidden * c, "weights"), op.bias = floats(op.hidden, "bias");
        op.weights2 = floats(op.hidden * c, "weights"), op.bias2 = floats(c, "bias");
    }

    void check_size(const Op& op) const {
        if (op.height < 1 || op.width < 1) bad("a map without pixels");
        if (int64_t(op.height) * op.width * ((op.channels + 15) / 16 * 16) > MOST_VALUES) bad("a map is too large");
    }

    Graph g_;
    const int32_t *at_, *end_;
    const Arrays arrays_;
    const int height_, width_;
};

}  // namespace

Graph read_graph(const int32_t* program, int64_t items, const Arrays& arrays, int height, int width) {
    return Reader(program, items, arrays, height, width).graph();
}

}  // namespace edgebin
