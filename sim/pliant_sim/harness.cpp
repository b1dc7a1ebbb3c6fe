// Clock loop and AXI4-Lite host around one Verilated core, called from Python.
//
// The inputs are registered in harness.v. After a rising edge the outputs are those of the new
// cycle, and the pins still hold the inputs that the core sees in it: edge() samples the handshakes
// of the cycle, sets the pins for the next one and steps the clock. An instance owns all its state:
// instances run in different threads.

#include <ctime>

#include "axi_memory.h"
#include "verilated.h"

#define API extern "C" __attribute__((visibility("default")))

enum Status { kInterrupt = 0, kTimeout = 1, kViolation = 2 };
constexpr int kNoAnswer = -1;

class Core {
    std::unique_ptr<VerilatedContext> context{new VerilatedContext};
    std::unique_ptr<Vtop> top{new Vtop(context.get())};

  public:
    Statistics stats{};
    AxiMemory memory{top.get(), stats};
    uint64_t* events = nullptr;
    uint64_t event_capacity = 0, event_count = 0;

    ~Core() { top->final(); }

    void power_on() {
        memory.power_on();
        top->s_axi_awvalid = top->s_axi_wvalid = top->s_axi_arvalid = 0;
        top->s_axi_bready = top->s_axi_rready = 0;
        top->rst = 1;
        for (int n = 0; n < 8; n++) step();
        top->rst = 0;
        step();
    }

    // Returns the AXI response, or kNoAnswer after `limit` cycles.
    int write_register(uint32_t address, uint32_t value, uint64_t limit) {
        uint64_t address_delay = delay(), data_delay = delay(), response_delay = delay();
        bool address_sent = false, data_sent = false;
        top->s_axi_awaddr = address;
        top->s_axi_awprot = 0;
        top->s_axi_wdata = value;
        top->s_axi_wstrb = 15;
        for (uint64_t n = 0; n < limit && !memory.violation[0]; n++) {
            bool answered = top->s_axi_bvalid && top->s_axi_bready;
            int response = top->s_axi_bresp;
            if (top->s_axi_bvalid && !(address_sent && data_sent))
                memory.violate("s_axi: B before AW and W");
            address_sent |= top->s_axi_awvalid && top->s_axi_awready;
            data_sent |= top->s_axi_wvalid && top->s_axi_wready;
            top->s_axi_awvalid = !address_sent && n >= address_delay;
            top->s_axi_wvalid = !data_sent && n >= data_delay;
            top->s_axi_bready = !answered && n >= response_delay;
            edge();
            if (answered) return response;
        }
        return kNoAnswer;
    }

    int read_register(uint32_t address, uint32_t* value, uint64_t limit) {
        uint64_t address_delay = delay(), data_delay = delay();
        bool address_sent = false;
        top->s_axi_araddr = address;
        top->s_axi_arprot = 0;
        for (uint64_t n = 0; n < limit && !memory.violation[0]; n++) {
            bool answered = top->s_axi_rvalid && top->s_axi_rready;
            int response = top->s_axi_rresp;
            *value = top->s_axi_rdata;
            if (top->s_axi_rvalid && !address_sent) memory.violate("s_axi: R before AR");
            address_sent |= top->s_axi_arvalid && top->s_axi_arready;
            top->s_axi_arvalid = !address_sent && n >= address_delay;
            top->s_axi_rready = !answered && n >= data_delay;
            edge();
            if (answered) return response;
        }
        return kNoAnswer;
    }

    int run(uint64_t limit, bool until_interrupt) {
        timespec begin, end;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        int status = kTimeout;
        for (uint64_t n = 0; n < limit; n++) {
            edge();
            if (memory.violation[0]) {
                status = kViolation;
                break;
            }
            if (top->irq && until_interrupt) {
                status = kInterrupt;
                break;
            }
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        stats.cpu_nanoseconds +=
            (end.tv_sec - begin.tv_sec) * 1000000000ll + end.tv_nsec - begin.tv_nsec;
        return status;
    }

  private:
    void step() {
        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
        stats.cycle++;
    }

    void edge() {
        unsigned start = top->trace_start, done = top->trace_done;
        if (start | done) record(start, done);
        memory.sample();
        memory.drive();
        step();
    }

    void record(unsigned start, unsigned done) {
        for (unsigned unit = 0; unit < 4; unit++) {
            if (done >> unit & 1) stats.finished[unit]++, log(unit << 1 | 1);
            if (start >> unit & 1) stats.started[unit]++, log(unit << 1);
        }
    }

    // An event is cycle * 8 + unit * 2 + (1 when done); events that do not fit are counted.
    void log(unsigned event) {
        if (event_count < event_capacity) events[event_count] = stats.cycle << 3 | event;
        if (event_capacity) event_count++;
    }

    uint64_t delay() { return memory.stalls ? memory.next_random() >> 8 & 7 : 0; }
};

API Core* pliant_create() { return new Core; }

API void pliant_destroy(Core* core) { delete core; }

API void pliant_power_on(Core* core) { core->power_on(); }

API void pliant_memory(Core* core, uint8_t* data, uint64_t base, uint64_t size) {
    core->memory.place(data, base, size);
}

API void pliant_timing(Core* core, uint32_t latency, double bytes_per_cycle, uint32_t outstanding,
                       int interleave) {
    core->memory.set_timing(latency, bytes_per_cycle, outstanding, interleave);
}

API void pliant_stalls(Core* core, int enable, uint64_t seed) {
    core->memory.set_stalls(enable, seed);
}

API void pliant_inject(Core* core, int write, int response, int64_t burst, uint64_t low,
                       uint64_t high) {
    core->memory.inject(write, response, burst, low, high);
}

API void pliant_clear_faults(Core* core) { core->memory.clear_faults(); }

API void pliant_trace(Core* core, uint64_t* events, uint64_t capacity) {
    core->events = events;
    core->event_capacity = capacity;
    core->event_count = 0;
}

API uint64_t pliant_event_count(Core* core) { return core->event_count; }

API int pliant_write(Core* core, uint32_t address, uint32_t value, uint64_t limit) {
    return core->write_register(address, value, limit);
}

API int pliant_read(Core* core, uint32_t address, uint32_t* value, uint64_t limit) {
    return core->read_register(address, value, limit);
}

API int pliant_run(Core* core, uint64_t limit, int until_interrupt) {
    return core->run(limit, until_interrupt);
}

API const char* pliant_violation(Core* core) { return core->memory.violation; }

API void pliant_statistics(Core* core, Statistics* out) { *out = core->stats; }
