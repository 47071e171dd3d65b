/* A policy rolled out with LANES step sizes side by side, as optimal.py has it in NumPy. `step` takes (x, u) to x';
   `cost` takes (x', u, goal, weights) to the TERMS terms of its cost. NP is the size of goal and weights together. */
void roll(long count, double *const *arrays) {
    const double *x0 = arrays[0], *xn = arrays[1], *un = arrays[2], *k = arrays[3], *K = arrays[4], *sizes = arrays[5];
    const double *low = arrays[6], *high = arrays[7], *given = arrays[8];
    double *xs = arrays[9], *us = arrays[10], *terms = arrays[11];
    V in[NX + NU + NP], next[NX], x[NX], u[NU], share, each[TERMS], sum[TERMS];
    for (int l = 0; l < LANES; l++) share[l] = sizes[l];
    for (int i = 0; i < TERMS; i++) sum[i] = (V){0};
    for (int i = 0; i < NX; i++) x[i] = (V){0} + x0[i];
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < NX; i++) xs[(l * (count + 1)) * NX + i] = x[i][l];
    for (long t = 0; t < count; t++) {
        for (int i = 0; i < NU; i++) {
            V wanted = un[t * NU + i] + share * k[t * NU + i];
            for (int j = 0; j < NX; j++) wanted += K[(t * NU + i) * NX + j] * (x[j] - xn[t * NX + j]);
            for (int l = 0; l < LANES; l++)
                u[i][l] = wanted[l] < low[i] ? low[i] : wanted[l] > high[i] ? high[i] : wanted[l];
            in[NX + i] = u[i];
        }
        for (int i = 0; i < NX; i++) in[i] = x[i];
        step(in, next);
        for (int i = 0; i < NX; i++) in[i] = x[i] = next[i];
        for (int i = 0; i < NP; i++) in[NX + NU + i] = (V){0} + given[t * NP + i];
        cost(in, each);
        for (int i = 0; i < TERMS; i++) sum[i] += each[i];
        for (int l = 0; l < LANES; l++) {
            for (int i = 0; i < NX; i++) xs[(l * (count + 1) + t + 1) * NX + i] = x[i][l];
            for (int i = 0; i < NU; i++) us[(l * count + t) * NU + i] = u[i][l];
        }
    }
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < TERMS; i++) terms[l * TERMS + i] = sum[i][l];
}
