// DSP48E2 in the one mode that pliant_hw/dsp.py uses (UG579): A through A1 and A2, B, M and P
// registered, P = C + A*B or PCIN + A*B. Anything else ends the simulation.
module DSP48E2 #(
    parameter integer ACASCREG = 1, ADREG = 1, ALUMODEREG = 1, AREG = 1, BCASCREG = 1, BREG = 1,
    parameter integer CARRYINREG = 1, CARRYINSELREG = 1, CREG = 1, DREG = 1, INMODEREG = 1,
    parameter integer MREG = 1, OPMODEREG = 1, PREG = 1
) (
    input CLK,
    input signed [29:0] A, input signed [17:0] B, input signed [47:0] C, PCIN, input [26:0] D,
    input [29:0] ACIN, input [17:0] BCIN,
    input [8:0] OPMODE, input [3:0] ALUMODE, input [4:0] INMODE, input [2:0] CARRYINSEL,
    input CARRYIN, CARRYCASCIN, MULTSIGNIN,
    input CEA1, CEA2, CEAD, CEALUMODE, CEB1, CEB2, CEC, CECARRYIN, CECTRL, CED, CEINMODE, CEM, CEP,
    input RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP,
    output signed [47:0] P, PCOUT
);
    reg signed [29:0] a1 = 0, a2 = 0;
    reg signed [17:0] b = 0;
    reg signed [44:0] m = 0;
    reg signed [47:0] p = 0;
    wire signed [26:0] multiplicand = a2[26:0];
    wire resets = RSTA | RSTALLCARRYIN | RSTALUMODE | RSTB | RSTC | RSTCTRL | RSTD | RSTINMODE |
        RSTM | RSTP;

    always @(posedge CLK) begin
        if (AREG != 2 || ACASCREG != 2 || BREG != 1 || MREG != 1 || PREG != 1 || CREG != 0 ||
                ALUMODEREG != 0 || CARRYINREG != 0 || CARRYINSELREG != 0 || INMODEREG != 0 ||
                OPMODEREG != 0 || ALUMODE != 0 || INMODE != 0 || CARRYINSEL != 0 || CARRYIN ||
                resets || (OPMODE != 9'b000110101 && OPMODE != 9'b000010101)) begin
            $display("DSP48E2: mode not modelled");
            $finish;
        end
        if (CEA1) a1 <= A;
        if (CEA2) a2 <= a1;
        if (CEB2) b <= B;
        if (CEM) m <= multiplicand * b;
        if (CEP) p <= (OPMODE[5] ? C : PCIN) + m;
    end

    assign P = p;
    assign PCOUT = p;
endmodule
