"""Elementary functions of eight doubles at once, written as LLVM's vector instructions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

LANES = 8
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_BITS = ir.VectorType(ir.IntType(64), LANES)


class Vectors:
    """Builds instructions on vectors; the base of what writes a function.

    Attributes:
        module: Where functions of LLVM and C are declared.
        builder: Where instructions go.
    """

    module: ir.Module
    builder: ir.IRBuilder

    def number(self, value: float) -> ir.Value:
        """Return the vector with the same number in every lane."""
        return ir.Constant(VECTOR, [value] * LANES)

    def call(self, name: str, arguments: Sequence[ir.Value]) -> ir.Value:
        """Call a function whose result is of its first argument's type."""
        kinds = [x.type for x in arguments]
        function = self.module.globals.get(name) or ir.Function(self.module, ir.FunctionType(kinds[0], kinds), name)
        return self.builder.call(function, arguments)

    def wave(self, x: ir.Value, operation: str) -> ir.Value:
        """Sine or cosine: reduced to an octant exactly, then a polynomial (Cephes, Moshier 1989); 2 ulp.

        Beyond 1e8 no digit of the angle would be left after the reduction: the result is NaN.
        """
        build = self.builder
        quarter = self.call(f"llvm.rint.v{LANES}f64", [build.fmul(x, self.number(2.0 / np.pi))])
        rest = x
        for part in _HALF_PI:
            rest = self._multiply_add(quarter, self.number(-part), rest)
        square = build.fmul(rest, rest)
        sine = self._multiply_add(build.fmul(square, rest), self._polynomial(square, _SINE), rest)
        tail = self._multiply_add(build.fmul(square, square), self._polynomial(square, _COSINE), self.number(1.0))
        cosine = self._multiply_add(square, self.number(-0.5), tail)
        # Quarter turns modulo 4, shifted by one for the cosine.
        turn = quarter if operation == "sin" else build.fadd(quarter, self.number(1.0))
        whole = self.call(f"llvm.floor.v{LANES}f64", [build.fmul(turn, self.number(0.25))])
        turn = self._multiply_add(whole, self.number(-4.0), turn)
        odd = build.or_(
            build.fcmp_ordered("==", turn, self.number(1.0)), build.fcmp_ordered("==", turn, self.number(3.0))
        )
        value = build.select(odd, cosine, sine)
        value = build.select(build.fcmp_ordered(">=", turn, self.number(2.0)), build.fneg(value), value)
        far = build.fcmp_ordered(">", self.call(f"llvm.fabs.v{LANES}f64", [x]), self.number(1e8))
        return build.select(far, self.number(float("nan")), value)

    def logarithm(self, x: ir.Value) -> ir.Value:
        """Natural logarithm: ``x = m 2^e`` with m in [√½, √2), then a rational function of m - 1 (Cephes); 2 ulp."""
        build = self.builder
        # Subnormal numbers have no exponent of their own.
        small = build.fcmp_ordered("<", x, self.number(float(np.finfo(float).tiny)))
        bits = build.bitcast(build.select(small, build.fmul(x, self.number(2.0**54)), x), _BITS)
        away = build.sub(bits, self._integer(int(np.float64(np.sqrt(0.5)).view(np.int64))))
        exponent = build.sitofp(build.ashr(away, self._integer(52)), VECTOR)
        exponent = build.fsub(exponent, build.select(small, self.number(54.0), self.number(0.0)))
        part = build.bitcast(build.sub(bits, build.and_(away, self._integer(-(1 << 52)))), VECTOR)
        rest = build.fsub(part, self.number(1.0))
        square = build.fmul(rest, rest)
        bend = build.fmul(build.fmul(rest, square), self._polynomial(rest, _LOG_ABOVE))
        bend = build.fdiv(bend, self._polynomial(rest, _LOG_BELOW))
        # The logarithm of 2 in two parts; multiples of the first are exact.
        tail = self._multiply_add(exponent, self.number(-2.121944400546905827679e-4), bend)
        tail = self._multiply_add(square, self.number(-0.5), tail)
        value = self._multiply_add(exponent, self.number(0.693359375), build.fadd(rest, tail))
        finite = build.fcmp_ordered("<", x, self.number(float("inf")))
        value = build.select(finite, value, x)  # infinity, and what is no number
        value = build.select(build.fcmp_ordered("==", x, self.number(0.0)), self.number(-float("inf")), value)
        return build.select(build.fcmp_ordered("<", x, self.number(0.0)), self.number(float("nan")), value)

    def _integer(self, value: int) -> ir.Value:
        return ir.Constant(_BITS, [value] * LANES)

    def _multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        build = self.builder
        return build.fadd(build.fmul(a, b, flags=("contract",)), c, flags=("contract",))

    def _polynomial(self, y: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        total = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self._multiply_add(total, y, self.number(coefficient))
        return total


# Pi/2 in four parts, 23, 21 and 26 bits long, so that multiples of them up to 1e8 are exact, and the rest.
_HALF_PI = (1.570796251296997, 7.549789415861596e-08, 5.39030284759512e-15, 1.0562999066987428e-23)
_SINE = (
    1.58962301576546568060e-10,
    -2.50507477628578072866e-8,
    2.75573136213857245213e-6,
    -1.98412698295895385996e-4,
    8.33333333332211858878e-3,
    -1.66666666666666307295e-1,
)
_COSINE = (
    -1.13585365213876817300e-11,
    2.08757008419747316778e-9,
    -2.75573141792967388112e-7,
    2.48015872888717045348e-5,
    -1.38888888888730564116e-3,
    4.16666666666665929218e-2,
)
_LOG_ABOVE = (
    1.01875663804580931796e-4,
    4.97494994976747001425e-1,
    4.70579119878881725854,
    1.44989225341610930846e1,
    1.79368678507819816313e1,
    7.70838733755885391666,
)
_LOG_BELOW = (
    1.0,
    1.12873587189167450590e1,
    4.52279145837532221105e1,
    8.29875266912776603211e1,
    7.11544750618563894466e1,
    2.31251620126765340583e1,
)
