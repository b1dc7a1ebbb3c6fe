// An AXI4 memory with latency, limited bandwidth, random stalls and injected faults, which also
// checks the rules of the protocol on what the core drives.

#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "Vtop.h"

constexpr uint64_t kDataBytes = sizeof(Vtop::m_axi_rdata);
constexpr uint64_t kStrobeBytes = (kDataBytes + 7) / 8;
constexpr uint64_t kPage = 4096;  // no AXI4 burst crosses such a boundary (A3.4.1)
constexpr unsigned kSlots = 64;   // bursts in flight in each direction, a power of two
constexpr uint64_t kNever = UINT64_MAX;
constexpr int64_t kByte = 1 << 16;  // the token bucket counts in 2^-16 bytes
constexpr uint8_t kPoison = 0xA5;   // read data of failed accesses

enum Response { kOkay = 0, kSlaveError = 2, kDecodeError = 3, kSilence = 4 };

struct Address {
    uint64_t address;
    uint32_t id, length, size, burst;
    bool operator==(const Address& o) const {
        return address == o.address && id == o.id && length == o.length && size == o.size &&
               burst == o.burst;
    }
};

struct ReadBurst {
    uint64_t address, ready;
    uint32_t id, beats;
    uint8_t response;
    bool silent;
};

struct WriteBurst {
    uint64_t address, ready;
    uint32_t id, beats, filled;
    uint8_t response;
    bool silent;
    uint8_t data[kPage];
    uint8_t strobe[kPage];  // kStrobeBytes for each beat
};

struct FaultRule {
    bool write;
    int response;
    int64_t burst;        // index since the rule was set; -1 for any
    uint64_t low, high;   // addresses [low, high); anywhere if empty
    uint64_t first;       // bursts that had been counted when the rule was set
};

struct Statistics {
    uint64_t cycle, read_bursts, write_bursts, read_beats, write_beats;
    uint64_t started[4], finished[4];
    uint64_t cpu_nanoseconds;
};

class AxiMemory {
  public:
    AxiMemory(Vtop* top, Statistics& stats) : top(top), stats(stats) { reads.reserve(kSlots); }

    char violation[256] = "";  // first broken rule, if any
    bool stalls = false;

    void place(uint8_t* data, uint64_t address, uint64_t bytes) {
        memory = data;
        base = address;
        size = bytes;
    }

    void set_timing(uint32_t cycles, double bytes_per_cycle, uint32_t bursts, bool mix) {
        latency = cycles;
        rate = (int64_t)(bytes_per_cycle * kByte);
        capacity = std::max<int64_t>(rate, kByte * kDataBytes);
        tokens = capacity;
        outstanding = bursts;
        interleave = mix;
    }

    void set_stalls(bool enable, uint64_t seed) {
        stalls = enable;
        random = seed * 0x9E3779B97F4A7C15ull | 1;
    }

    void inject(bool write, int response, int64_t burst, uint64_t low, uint64_t high) {
        uint64_t first = write ? stats.write_bursts : stats.read_bursts;
        faults.push_back({write, response, burst, low, high, first});
    }

    // Bursts that were left without an answer get one now.
    void clear_faults() {
        faults.clear();
        uint64_t ready = stats.cycle + latency;
        for (ReadBurst& burst : reads)
            if (burst.silent) burst.ready = ready, burst.silent = false;
        for (uint64_t i = write_head; i != write_tail; i++) {
            WriteBurst& burst = writes[i % kSlots];
            if (burst.silent) burst.ready = ready, burst.silent = false;
        }
    }

    void power_on() {
        reads.clear();
        write_head = write_fill = write_tail = 0;
        read_shown = response_shown = false;
        read_address_held = write_address_held = write_data_held = false;
        top->m_axi_rvalid = top->m_axi_bvalid = 0;
        top->m_axi_arready = top->m_axi_awready = top->m_axi_wready = 0;
        violation[0] = 0;
    }

    // Takes the handshakes of this cycle.
    void sample() {
        accept_responses();
        accept_read_address();
        write_waits = accept_write_data();
        accept_write_address();
    }

    // Sets the pins for the next cycle.
    void drive() {
        if (stalls) drive<true>();
        else drive<false>();
    }

    uint64_t next_random() {  // xorshift64 (Marsaglia, 2003)
        random ^= random << 13;
        random ^= random >> 7;
        return random ^= random << 17;
    }

    __attribute__((format(printf, 2, 3))) void violate(const char* format, ...) {
        if (violation[0]) return;
        int used = snprintf(violation, sizeof violation, "cycle %llu: ",
                            (unsigned long long)stats.cycle);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(violation + used, sizeof violation - used, format, arguments);
        va_end(arguments);
    }

  private:
    Vtop* top;
    Statistics& stats;

    uint8_t* memory = nullptr;
    uint64_t base = 0, size = 0;
    uint64_t latency = 1;
    unsigned outstanding = 16;
    bool interleave = false;
    int64_t rate = 0, tokens = 0, capacity = 0;  // rate 0: unlimited
    bool last_was_write = false;
    std::vector<FaultRule> faults;

    std::vector<ReadBurst> reads;
    size_t current = 0;  // index of the burst whose beat is on R
    bool read_shown = false;
    std::unique_ptr<WriteBurst[]> writes{new WriteBurst[kSlots]};
    uint64_t write_head = 0, write_fill = 0, write_tail = 0;  // answered, being filled, accepted
    bool response_shown = false;

    bool read_address_held = false, write_address_held = false, write_data_held = false;
    Address held_read{}, held_write{};
    uint8_t held_data[kDataBytes], held_strobe[kStrobeBytes];
    bool held_last = false;

    bool write_waits = false;
    uint64_t random = 1;
    uint8_t probability[5] = {};  // AR, AW, W, R, B: in 1/256

    // ---- accepting -------------------------------------------------------------------------

    // Checks an address beat and returns the response of its burst.
    int judge(const char* channel, const Address& a, bool write, uint64_t index) {
        uint64_t bytes = (a.length + 1) * kDataBytes;
        if (a.burst != 1) violate("%s: burst type %u, only INCR (1) is allowed", channel, a.burst);
        if ((1ull << a.size) != kDataBytes)
            violate("%s: size %u, must be the width of the bus", channel, a.size);
        if (a.address % kDataBytes)
            violate("%s: address %#llx is not aligned to the bus", channel,
                    (unsigned long long)a.address);
        if (a.address / kPage != (a.address + bytes - 1) / kPage)
            violate("%s: burst of %u beats at %#llx crosses a 4 KiB boundary", channel,
                    a.length + 1, (unsigned long long)a.address);
        for (const FaultRule& rule : faults) {
            if (rule.write != write) continue;
            uint64_t since = index - rule.first;
            bool counted = rule.burst < 0 || since == (uint64_t)rule.burst ||
                           (rule.response == kSilence && since > (uint64_t)rule.burst);
            bool inside = rule.high <= rule.low ||
                          (a.address < rule.high && a.address + bytes > rule.low);
            if (counted && inside) return rule.response;
        }
        bool mapped = a.address >= base && bytes <= size && a.address - base <= size - bytes;
        return mapped ? kOkay : kDecodeError;
    }

    void check_held(const char* channel, bool& held, const Address& before, const Address& now,
                    bool valid) {
        if (!held) return;
        if (!valid) violate("%s: valid retracted before ready", channel);
        else if (!(before == now)) violate("%s: payload changed before ready", channel);
        held = false;
    }

    void accept_read_address() {
        bool valid = top->m_axi_arvalid;
        if (!valid && !read_address_held) return;
        Address a{top->m_axi_araddr, top->m_axi_arid, top->m_axi_arlen, top->m_axi_arsize,
                  top->m_axi_arburst};
        check_held("AR", read_address_held, held_read, a, valid);
        if (!valid) return;
        if (!top->m_axi_arready) {
            read_address_held = true;
            held_read = a;
            return;
        }
        int response = judge("AR", a, false, stats.read_bursts++);
        bool silent = response == kSilence;
        reads.push_back({a.address, silent ? kNever : stats.cycle + latency, a.id, a.length + 1,
                         (uint8_t)(silent ? kOkay : response), silent});
    }

    void accept_write_address() {
        bool valid = top->m_axi_awvalid;
        if (!valid && !write_address_held) return;
        Address a{top->m_axi_awaddr, top->m_axi_awid, top->m_axi_awlen, top->m_axi_awsize,
                  top->m_axi_awburst};
        check_held("AW", write_address_held, held_write, a, valid);
        if (!valid) return;
        if (!top->m_axi_awready) {
            write_address_held = true;
            held_write = a;
            return;
        }
        int response = judge("AW", a, true, stats.write_bursts++);
        if (violation[0]) return;  // the burst may not fit its slot
        WriteBurst& burst = writes[write_tail++ % kSlots];
        burst.address = a.address;
        burst.id = a.id;
        burst.beats = a.length + 1;
        burst.filled = 0;
        burst.silent = response == kSilence;
        burst.response = burst.silent ? kOkay : response;
    }

    // Returns whether a beat waits.
    bool accept_write_data() {
        bool valid = top->m_axi_wvalid;
        if (write_data_held) {
            if (!valid) violate("W: valid retracted before ready");
            else if (memcmp(held_data, &top->m_axi_wdata, kDataBytes) ||
                     memcmp(held_strobe, &top->m_axi_wstrb, kStrobeBytes) ||
                     held_last != (bool)top->m_axi_wlast)
                violate("W: payload changed before ready");
            write_data_held = false;
        }
        if (!valid) return false;
        if (!top->m_axi_wready) {
            write_data_held = true;
            memcpy(held_data, &top->m_axi_wdata, kDataBytes);
            memcpy(held_strobe, &top->m_axi_wstrb, kStrobeBytes);
            held_last = top->m_axi_wlast;
            return true;
        }
        WriteBurst& burst = writes[write_fill % kSlots];
        memcpy(burst.data + burst.filled * kDataBytes, &top->m_axi_wdata, kDataBytes);
        memcpy(burst.strobe + burst.filled * kStrobeBytes, &top->m_axi_wstrb, kStrobeBytes);
        burst.filled++;
        stats.write_beats++;
        tokens -= kByte * kDataBytes;
        last_was_write = true;
        bool last = burst.filled == burst.beats;
        if ((bool)top->m_axi_wlast != last)
            violate("W: last is %d on beat %u of %u", (int)top->m_axi_wlast, burst.filled,
                    burst.beats);
        if (last) {
            burst.ready = burst.silent ? kNever : stats.cycle + latency;
            write_fill++;
        }
        return false;
    }

    void accept_responses() {
        if (read_shown && top->m_axi_rready) {
            ReadBurst& burst = reads[current];
            burst.address += kDataBytes;
            stats.read_beats++;
            if (--burst.beats == 0) reads.erase(reads.begin() + current);
            read_shown = false;
        }
        if (response_shown && top->m_axi_bready) {
            write_head++;
            response_shown = false;
        }
    }

    // ---- driving ---------------------------------------------------------------------------

    // Index of a burst that can show a beat in the next cycle, or reads.size().
    size_t choose_read() {
        uint64_t next = stats.cycle + 1;
        if (reads.empty()) return 0;
        if (!interleave) return reads[0].ready <= next ? 0 : reads.size();
        size_t ready[kSlots], count = 0;
        uint64_t seen = 0;  // AXI4 keeps the order within an ID (A5.3)
        for (size_t i = 0; i < reads.size(); i++) {
            uint64_t bit = 1ull << (reads[i].id & 63);
            if (!(seen & bit) && reads[i].ready <= next) ready[count++] = i;
            seen |= bit;
        }
        return count ? ready[next_random() % count] : reads.size();
    }

    void show_read(size_t index) {
        current = index;
        const ReadBurst& burst = reads[index];
        if (burst.response == kOkay)
            memcpy(&top->m_axi_rdata, memory + (burst.address - base), kDataBytes);
        else
            memset(&top->m_axi_rdata, kPoison, kDataBytes);
        top->m_axi_rid = burst.id;
        top->m_axi_rresp = burst.response;
        top->m_axi_rlast = burst.beats == 1;
        read_shown = true;
        tokens -= kByte * kDataBytes;
        last_was_write = false;
    }

    // Data reach the memory no earlier than their response, so that a core that does not wait for
    // it reads the old ones.
    void commit(const WriteBurst& burst) {
        if (burst.response != kOkay) return;
        uint8_t* target = memory + (burst.address - base);
        for (uint32_t beat = 0; beat < burst.beats; beat++) {
            const uint8_t* strobe = burst.strobe + beat * kStrobeBytes;
            for (uint64_t byte = 0; byte < kDataBytes; byte++)
                if (strobe[byte / 8] >> (byte % 8) & 1)
                    target[beat * kDataBytes + byte] = burst.data[beat * kDataBytes + byte];
        }
    }

    template <bool Stalls> void drive() {
        bool stall[5] = {};
        if (Stalls) {
            if (stats.cycle % 64 == 0) {
                static const uint8_t kProbabilities[4] = {0, 64, 128, 224};
                uint64_t bits = next_random() >> 8;
                for (int i = 0; i < 5; i++) probability[i] = kProbabilities[bits >> (2 * i) & 3];
            }
            uint64_t bits = next_random() >> 8;
            for (int i = 0; i < 5; i++) stall[i] = (bits >> (8 * i) & 255) < probability[i];
        }
        top->m_axi_arready = reads.size() < outstanding && !stall[0];
        top->m_axi_awready = write_tail - write_head < outstanding && !stall[1];

        tokens = rate ? std::min(tokens + rate, capacity) : kByte;
        bool affordable = tokens > 0, held_back = false;
        size_t candidate = reads.size();
        if (!read_shown && affordable && !stall[3]) {
            candidate = choose_read();
            // One beat is left for two that want it: take turns.
            held_back = rate && write_waits && !last_was_write && !stall[2] &&
                        tokens <= kByte * (int64_t)kDataBytes;
        }
        if (candidate < reads.size() && !held_back) show_read(candidate);
        top->m_axi_rvalid = read_shown;
        bool write_affordable = rate ? tokens > 0 : true;
        top->m_axi_wready = write_fill != write_tail && write_affordable && !stall[2];

        if (!response_shown && write_head != write_fill && !stall[4]) {
            WriteBurst& burst = writes[write_head % kSlots];
            if (burst.ready <= stats.cycle + 1) {
                commit(burst);
                top->m_axi_bid = burst.id;
                top->m_axi_bresp = burst.response;
                response_shown = true;
            }
        }
        top->m_axi_bvalid = response_shown;
    }
};
