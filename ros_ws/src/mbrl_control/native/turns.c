/* Sine and cosine of LANES angles: those of less than LARGEST rad by the reduction of Cody and Waite to a quarter turn
   about 0 and the polynomials of Cephes (Moshier), to 2 units in the last place; all others by C's library. A source that
   takes both of an angle has the reduction once. */
#define LARGEST 1e5
typedef long W __attribute__((vector_size(8 * LANES)));
static inline __attribute__((always_inline)) void v_turn(V x, V *s, V *c, W *quarter) {
    V shifted = x * 0.63661977236758134308 + 6755399441055744.0; /* 2 / pi, and 1.5 2^52: rounds to whole numbers */
    V n = shifted - 6755399441055744.0;
    V y = ((x - n * 1.57079625129699707031) - n * 7.54978941586159635336e-8) - n * 5.39030285815811905290e-15;
    V z = y * y;
    V a = ((((1.58962301576546568060e-10 * z - 2.50507477628578072866e-8) * z + 2.75573136213857245213e-6) * z
            - 1.98412698295895385996e-4) * z + 8.33333333332211858878e-3) * z - 1.66666666666666307295e-1;
    V b = ((((-1.13585365213876817300e-11 * z + 2.08757008419747316778e-9) * z - 2.75573141792967388112e-7) * z
            + 2.48015872888517045348e-5) * z - 1.38888888888730564116e-3) * z + 4.16666666666665929218e-2;
    *s = y + y * (z * a);
    *c = 1.0 - 0.5 * z + z * z * b;
    *quarter = (W)shifted;
}
static inline int v_far(V x) {
    W far = ~((x < LARGEST) & (x > -LARGEST));
    long any = 0;
    for (int i = 0; i < LANES; i++) any |= far[i];
    return any != 0;
}
static inline __attribute__((always_inline)) V v_chosen(V even, V odd, W quarter, W sign) {
    W swap = -(quarter & 1);
    return (V)((((W)odd & swap) | ((W)even & ~swap)) ^ ((sign & 2) << 62));
}
static inline __attribute__((always_inline)) V v_sin(V x) {
    V s, c, r;
    W quarter;
    v_turn(x, &s, &c, &quarter);
    r = v_chosen(s, c, quarter, quarter);
    if (__builtin_expect(v_far(x), 0))
        for (int i = 0; i < LANES; i++) r[i] = sin(x[i]);
    return r;
}
static inline __attribute__((always_inline)) V v_cos(V x) {
    V s, c, r;
    W quarter;
    v_turn(x, &s, &c, &quarter);
    r = v_chosen(c, s, quarter, quarter + 1);
    if (__builtin_expect(v_far(x), 0))
        for (int i = 0; i < LANES; i++) r[i] = cos(x[i]);
    return r;
}
