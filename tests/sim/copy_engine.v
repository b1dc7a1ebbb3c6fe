// The smallest core with the accelerator's ports: copies bursts from segment 0 to segment 1 and
// can be told to break a rule of AXI4. Proves the harness without the accelerator.
//
// program_length: bursts; watchdog: beats in a burst; fault_code: failed responses seen, by kind;
// fault_address: address of the first burst, for crossing page boundaries.
// fault kinds are chosen by program_base: see DEFECT_*.
module pliant_core #(parameter BYTES = 8, parameter ADDRESS = 40) (
    input clk, input rst, output irq,
    input [11:0] s_axi_awaddr, input [2:0] s_axi_awprot, input s_axi_awvalid,
    output s_axi_awready, input [31:0] s_axi_wdata, input [3:0] s_axi_wstrb, input s_axi_wvalid,
    output s_axi_wready, output [1:0] s_axi_bresp, output reg s_axi_bvalid, input s_axi_bready,
    input [11:0] s_axi_araddr, input [2:0] s_axi_arprot, input s_axi_arvalid,
    output s_axi_arready, output reg [31:0] s_axi_rdata, output [1:0] s_axi_rresp,
    output reg s_axi_rvalid, input s_axi_rready,
    output [0:0] m_axi_arid, output [ADDRESS-1:0] m_axi_araddr, output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize, output [1:0] m_axi_arburst, output [3:0] m_axi_arcache,
    output [2:0] m_axi_arprot, output m_axi_arvalid, input m_axi_arready,
    input [0:0] m_axi_rid, input [8*BYTES-1:0] m_axi_rdata, input [1:0] m_axi_rresp,
    input m_axi_rlast, input m_axi_rvalid, output m_axi_rready,
    output [0:0] m_axi_awid, output [ADDRESS-1:0] m_axi_awaddr, output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize, output [1:0] m_axi_awburst, output [3:0] m_axi_awcache,
    output [2:0] m_axi_awprot, output m_axi_awvalid, input m_axi_awready,
    output [8*BYTES-1:0] m_axi_wdata, output [BYTES-1:0] m_axi_wstrb, output m_axi_wlast,
    output m_axi_wvalid, input m_axi_wready,
    input [0:0] m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output [3:0] trace_start, output [3:0] trace_done
);
    localparam DEFECT_AR_RETRACT = 1, DEFECT_AR_CHANGE = 2, DEFECT_W_RETRACT = 3,
        DEFECT_W_CHANGE = 4, DEFECT_LAST = 5, DEFECT_SIZE = 6, DEFECT_BURST = 7,
        DEFECT_HANG = 8, DEFECT_AW_RETRACT = 9;
    localparam FIFO = 64;

    reg [31:0] bursts, beats, defect, segment_0, segment_1, faults;
    reg [1:0] interrupt_enable, interrupt_status;
    reg running, done, fault;
    reg [31:0] cycles, read_beats, write_beats;
    assign irq = |(interrupt_enable & interrupt_status);

    // AXI4-Lite: one access at a time.
    assign s_axi_awready = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    assign s_axi_wready = s_axi_awready;
    assign s_axi_arready = s_axi_arvalid && !s_axi_rvalid;
    assign s_axi_bresp = 0;
    assign s_axi_rresp = 0;
    wire start = s_axi_awready && s_axi_awaddr == 12'h10 && s_axi_wdata[0] && !running;
    wire reset = rst || (s_axi_awready && s_axi_awaddr == 12'h10 && s_axi_wdata[1]);
    always @(posedge clk) begin
        if (s_axi_awready) begin
            s_axi_bvalid <= 1;
            case (s_axi_awaddr)
                12'h18: interrupt_enable <= s_axi_wdata[1:0];
                12'h2c: beats <= s_axi_wdata;
                12'h38: defect <= s_axi_wdata;
                12'h40: bursts <= s_axi_wdata;
                12'h60: segment_0 <= s_axi_wdata;
                12'h68: segment_1 <= s_axi_wdata;
                default: ;
            endcase
        end else if (s_axi_bready) s_axi_bvalid <= 0;
        if (s_axi_arready) begin
            s_axi_rvalid <= 1;
            case (s_axi_araddr)
                12'h00: s_axi_rdata <= 32'h544e4c50;
                12'h04: s_axi_rdata <= 1;
                12'h14: s_axi_rdata <= {29'b0, fault, done, running};
                12'h1c: s_axi_rdata <= interrupt_status;
                12'h20: s_axi_rdata <= faults;
                12'h2c: s_axi_rdata <= beats;
                12'h44: s_axi_rdata <= {cycles[29:0], interrupt_status};
                12'h60: s_axi_rdata <= segment_0;
                12'h68: s_axi_rdata <= segment_1;
                12'h100: s_axi_rdata <= cycles;
                12'h190: s_axi_rdata <= read_beats;
                12'h198: s_axi_rdata <= write_beats;
                default: s_axi_rdata <= 0;
            endcase
        end else if (s_axi_rready) s_axi_rvalid <= 0;
        if (rst) begin
            s_axi_bvalid <= 0; s_axi_rvalid <= 0; interrupt_enable <= 0;
        end
    end

    reg [31:0] ar_left, aw_left, r_left, w_left, b_left, ar_address, aw_address, w_beat, toggle;
    reg [8*BYTES-1:0] fifo [0:FIFO-1];
    reg [6:0] head, tail;
    wire [6:0] level = tail - head;

    assign m_axi_arvalid = running && ar_left != 0 &&
        !(defect == DEFECT_AR_RETRACT && toggle[2:0] == 3);
    assign m_axi_araddr = {{ADDRESS-32{1'b0}}, ar_address}
        + (defect == DEFECT_AR_CHANGE ? {toggle[0], 6'b0} : 0);
    assign m_axi_arlen = beats - 1;
    assign m_axi_arsize = defect == DEFECT_SIZE ? 0 : $clog2(BYTES);
    assign m_axi_arburst = defect == DEFECT_BURST ? 0 : 1;
    assign m_axi_arid = ar_left[0];
    assign m_axi_arcache = 3;
    assign m_axi_arprot = 0;
    assign m_axi_rready = level < FIFO - 1;
    assign m_axi_awvalid = running && aw_left != 0 &&
        !(defect == DEFECT_AW_RETRACT && toggle[2:0] == 3);
    assign m_axi_awaddr = {{ADDRESS-32{1'b0}}, aw_address};
    assign m_axi_awlen = beats - 1;
    assign m_axi_awsize = $clog2(BYTES);
    assign m_axi_awburst = 1;
    assign m_axi_awid = 0;
    assign m_axi_awcache = 3;
    assign m_axi_awprot = 0;
    assign m_axi_wvalid = running && level != 0 && w_left != 0 &&
        !(defect == DEFECT_W_RETRACT && toggle[2:0] == 3);
    assign m_axi_wdata = fifo[head[5:0]] ^ (defect == DEFECT_W_CHANGE ? toggle : 0);
    assign m_axi_wstrb = {BYTES{1'b1}};
    assign m_axi_wlast = w_beat == beats - (defect == DEFECT_LAST ? 2 : 1);
    assign m_axi_bready = 1;

    wire r = m_axi_rvalid && m_axi_rready, w = m_axi_wvalid && m_axi_wready;
    wire b = m_axi_bvalid && m_axi_bready;
    wire failed = (r && m_axi_rresp[1]) || (b && m_axi_bresp[1]);
    wire ended = running && b_left == 1 && b && defect != DEFECT_HANG;
    assign trace_start = {start, 2'b0, start};
    assign trace_done = {ended, 2'b0, running && r && r_left == 1};
    always @(posedge clk) begin
        toggle <= toggle + 1;
        if (s_axi_awready && s_axi_awaddr == 12'h1c)
            interrupt_status <= interrupt_status & ~s_axi_wdata[1:0];
        if (start) begin
            running <= 1; done <= 0; interrupt_status <= 0;
            ar_left <= bursts; aw_left <= bursts;
            r_left <= bursts * beats; w_left <= bursts * beats; b_left <= bursts;
            ar_address <= segment_0; aw_address <= segment_1;
            w_beat <= 0; head <= 0; tail <= 0; cycles <= 0; read_beats <= 0; write_beats <= 0;
        end
        if (running) begin
            cycles <= cycles + 1;
            if (m_axi_arvalid && m_axi_arready) begin
                ar_left <= ar_left - 1; ar_address <= ar_address + beats * BYTES;
            end
            if (m_axi_awvalid && m_axi_awready) begin
                aw_left <= aw_left - 1; aw_address <= aw_address + beats * BYTES;
            end
            if (r) begin
                fifo[tail[5:0]] <= m_axi_rdata; tail <= tail + 1; r_left <= r_left - 1;
                read_beats <= read_beats + 1;
            end
            if (w) begin
                head <= head + 1; w_left <= w_left - 1; write_beats <= write_beats + 1;
                w_beat <= w_beat == beats - 1 ? 0 : w_beat + 1;
            end
            if (b) b_left <= b_left - 1;
            if (failed) begin
                fault <= 1; faults <= r && m_axi_rresp[1] ? 3 : 4;
            end
            if (ended) begin
                running <= 0; done <= !fault && !failed;
                interrupt_status <= fault || failed ? 2 : 1;
            end
        end
        if (reset) begin
            running <= 0; done <= 0; fault <= 0; faults <= 0; interrupt_status <= 0;
            toggle <= 0; cycles <= 0; read_beats <= 0; write_beats <= 0;
        end
    end
endmodule
