// Signed or unsigned products of which one factor has 7 or 8 bits, signed, in look-up tables.
//
// That factor is recoded into four digits of -2 to 2 (Booth, radix 4). A multiple of the other one
// is formed and added in the same look-up tables: six inputs are three bits of the recoded factor,
// two of the other and one of the sum so far. Negative multiples are inverted; the one they lack
// is the carry into an adder that begins at their lowest bit. Other widths fail, that is, are left.
module \$__lut_mul (A, B, Y);
parameter A_SIGNED = 0; parameter B_SIGNED = 0;
parameter A_WIDTH = 0; parameter B_WIDTH = 0; parameter Y_WIDTH = 0;
input [A_WIDTH-1:0] A; input [B_WIDTH-1:0] B; output [Y_WIDTH-1:0] Y;
localparam AW = A_WIDTH + !A_SIGNED; localparam BW = B_WIDTH + !B_SIGNED;
localparam M = AW < BW ? BW : AW; localparam N = AW < BW ? AW : BW;
wire _TECHMAP_FAIL_ = N < 7 || N > 8;
wire [AW-1:0] a = {A_SIGNED && A[A_WIDTH-1], A}; wire [BW-1:0] b = {B_SIGNED && B[B_WIDTH-1], B};
wire [M-1:0] x = AW < BW ? b : a;
wire [N-1:0] y = AW < BW ? a : b;
wire [8:0] d = {y[N-1], y, 1'b0};
wire [3:0] minus; wire [M+1:0] p0, p1, p2, p3;
\$__booth #(.M(M)) d0 (.x(x), .d(d[2:0]), .minus(minus[0]), .p(p0));
\$__booth #(.M(M)) d1 (.x(x), .d(d[4:2]), .minus(minus[1]), .p(p1));
\$__booth #(.M(M)) d2 (.x(x), .d(d[6:4]), .minus(minus[2]), .p(p2));
\$__booth #(.M(M)) d3 (.x(x), .d(d[8:6]), .minus(minus[3]), .p(p3));
wire [M+1:0] s0, s1, s3; wire [M+3:0] s;
\$__sum #(.A(2), .Y(M+2)) first (.a(2'b0), .b(p0), .c(minus[0]), .y(s0));
\$__sum #(.A(M), .Y(M+2)) low (.a(s0[M+1:2]), .b(p1), .c(minus[1]), .y(s1));
\$__sum #(.A(M), .Y(M+2)) high (.a(p2[M+1:2]), .b(p3), .c(minus[3]), .y(s3));
\$__sum #(.A(M), .Y(M+4)) every (.a(s1[M+1:2]), .b({s3, p2[1:0]}), .c(minus[2]), .y(s));
wire signed [M+7:0] product = {s, s1[1:0], s0[1:0]};
assign Y = product;
endmodule
module \$__booth (x, d, minus, p);
parameter M = 0;
input [M-1:0] x; input [2:0] d; output minus; output [M+1:0] p;
assign minus = d[2] & ~(d[1] & d[0]);
assign p = (({M+2{d[1] ^ d[0]}} & {{2{x[M-1]}}, x})
  | ({M+2{(d[2] & ~d[1] & ~d[0]) | (~d[2] & d[1] & d[0])}} & {x[M-1], x, 1'b0})) ^ {M+2{minus}};
endmodule
module \$__sum (a, b, c, y);
parameter A = 0; parameter Y = 0;
input [A-1:0] a; input [Y-1:0] b; input c; output [Y-1:0] y;
wire [Y-1:0] x, co;
\$alu #(.A_SIGNED(1), .B_SIGNED(1), .A_WIDTH(A), .B_WIDTH(Y), .Y_WIDTH(Y)) _TECHMAP_REPLACE_
  (.A(a), .B(b), .CI(c), .BI(1'b0), .Y(y), .X(x), .CO(co));
endmodule
