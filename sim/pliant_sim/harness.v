// The core with its inputs registered. The C++ loop so sees outputs that are final after a rising
// edge and sets the inputs of the next cycle there: one evaluation a cycle, where inputs that reach
// logic directly would need that logic evaluated three times.
module pliant_harness #(parameter BYTES = 16, parameter ADDRESS = 40) (
    input clk,
    input rst,
    input [11:0] s_axi_awaddr,
    input [2:0] s_axi_awprot,
    input s_axi_awvalid,
    input [31:0] s_axi_wdata,
    input [3:0] s_axi_wstrb,
    input s_axi_wvalid,
    input s_axi_bready,
    input [11:0] s_axi_araddr,
    input [2:0] s_axi_arprot,
    input s_axi_arvalid,
    input s_axi_rready,
    input m_axi_arready,
    input m_axi_awready,
    input m_axi_wready,
    input m_axi_rid,
    input [8*BYTES-1:0] m_axi_rdata,
    input [1:0] m_axi_rresp,
    input m_axi_rlast,
    input m_axi_rvalid,
    input m_axi_bid,
    input [1:0] m_axi_bresp,
    input m_axi_bvalid,
    output irq,
    output [3:0] trace_start,
    output [3:0] trace_done,
    output s_axi_awready,
    output s_axi_wready,
    output [1:0] s_axi_bresp,
    output s_axi_bvalid,
    output s_axi_arready,
    output [31:0] s_axi_rdata,
    output [1:0] s_axi_rresp,
    output s_axi_rvalid,
    output m_axi_arid,
    output [ADDRESS-1:0] m_axi_araddr,
    output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst,
    output [3:0] m_axi_arcache,
    output [2:0] m_axi_arprot,
    output m_axi_arvalid,
    output m_axi_awid,
    output [ADDRESS-1:0] m_axi_awaddr,
    output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst,
    output [3:0] m_axi_awcache,
    output [2:0] m_axi_awprot,
    output m_axi_awvalid,
    output m_axi_rready,
    output [8*BYTES-1:0] m_axi_wdata,
    output [BYTES-1:0] m_axi_wstrb,
    output m_axi_wlast,
    output m_axi_wvalid,
    output m_axi_bready
);
    reg rst_q;
    reg [11:0] s_axi_awaddr_q;
    reg [2:0] s_axi_awprot_q;
    reg s_axi_awvalid_q;
    reg [31:0] s_axi_wdata_q;
    reg [3:0] s_axi_wstrb_q;
    reg s_axi_wvalid_q;
    reg s_axi_bready_q;
    reg [11:0] s_axi_araddr_q;
    reg [2:0] s_axi_arprot_q;
    reg s_axi_arvalid_q;
    reg s_axi_rready_q;
    reg m_axi_arready_q;
    reg m_axi_awready_q;
    reg m_axi_wready_q;
    reg m_axi_rid_q;
    reg [8*BYTES-1:0] m_axi_rdata_q;
    reg [1:0] m_axi_rresp_q;
    reg m_axi_rlast_q;
    reg m_axi_rvalid_q;
    reg m_axi_bid_q;
    reg [1:0] m_axi_bresp_q;
    reg m_axi_bvalid_q;
    always @(posedge clk) begin
        rst_q <= rst;
        s_axi_awaddr_q <= s_axi_awaddr;
        s_axi_awprot_q <= s_axi_awprot;
        s_axi_awvalid_q <= s_axi_awvalid;
        s_axi_wdata_q <= s_axi_wdata;
        s_axi_wstrb_q <= s_axi_wstrb;
        s_axi_wvalid_q <= s_axi_wvalid;
        s_axi_bready_q <= s_axi_bready;
        s_axi_araddr_q <= s_axi_araddr;
        s_axi_arprot_q <= s_axi_arprot;
        s_axi_arvalid_q <= s_axi_arvalid;
        s_axi_rready_q <= s_axi_rready;
        m_axi_arready_q <= m_axi_arready;
        m_axi_awready_q <= m_axi_awready;
        m_axi_wready_q <= m_axi_wready;
        m_axi_rid_q <= m_axi_rid;
        m_axi_rdata_q <= m_axi_rdata;
        m_axi_rresp_q <= m_axi_rresp;
        m_axi_rlast_q <= m_axi_rlast;
        m_axi_rvalid_q <= m_axi_rvalid;
        m_axi_bid_q <= m_axi_bid;
        m_axi_bresp_q <= m_axi_bresp;
        m_axi_bvalid_q <= m_axi_bvalid;
    end
    pliant_core core (
        .clk(clk),
        .rst(rst_q),
        .s_axi_awaddr(s_axi_awaddr_q),
        .s_axi_awprot(s_axi_awprot_q),
        .s_axi_awvalid(s_axi_awvalid_q),
        .s_axi_wdata(s_axi_wdata_q),
        .s_axi_wstrb(s_axi_wstrb_q),
        .s_axi_wvalid(s_axi_wvalid_q),
        .s_axi_bready(s_axi_bready_q),
        .s_axi_araddr(s_axi_araddr_q),
        .s_axi_arprot(s_axi_arprot_q),
        .s_axi_arvalid(s_axi_arvalid_q),
        .s_axi_rready(s_axi_rready_q),
        .m_axi_arready(m_axi_arready_q),
        .m_axi_awready(m_axi_awready_q),
        .m_axi_wready(m_axi_wready_q),
        .m_axi_rid(m_axi_rid_q),
        .m_axi_rdata(m_axi_rdata_q),
        .m_axi_rresp(m_axi_rresp_q),
        .m_axi_rlast(m_axi_rlast_q),
        .m_axi_rvalid(m_axi_rvalid_q),
        .m_axi_bid(m_axi_bid_q),
        .m_axi_bresp(m_axi_bresp_q),
        .m_axi_bvalid(m_axi_bvalid_q),
        .irq(irq),
        .trace_start(trace_start),
        .trace_done(trace_done),
        .s_axi_awready(s_axi_awready),
        .s_axi_wready(s_axi_wready),
        .s_axi_bresp(s_axi_bresp),
        .s_axi_bvalid(s_axi_bvalid),
        .s_axi_arready(s_axi_arready),
        .s_axi_rdata(s_axi_rdata),
        .s_axi_rresp(s_axi_rresp),
        .s_axi_rvalid(s_axi_rvalid),
        .m_axi_arid(m_axi_arid),
        .m_axi_araddr(m_axi_araddr),
        .m_axi_arlen(m_axi_arlen),
        .m_axi_arsize(m_axi_arsize),
        .m_axi_arburst(m_axi_arburst),
        .m_axi_arcache(m_axi_arcache),
        .m_axi_arprot(m_axi_arprot),
        .m_axi_arvalid(m_axi_arvalid),
        .m_axi_awid(m_axi_awid),
        .m_axi_awaddr(m_axi_awaddr),
        .m_axi_awlen(m_axi_awlen),
        .m_axi_awsize(m_axi_awsize),
        .m_axi_awburst(m_axi_awburst),
        .m_axi_awcache(m_axi_awcache),
        .m_axi_awprot(m_axi_awprot),
        .m_axi_awvalid(m_axi_awvalid),
        .m_axi_rready(m_axi_rready),
        .m_axi_wdata(m_axi_wdata),
        .m_axi_wstrb(m_axi_wstrb),
        .m_axi_wlast(m_axi_wlast),
        .m_axi_wvalid(m_axi_wvalid),
        .m_axi_bready(m_axi_bready)
    );
endmodule
