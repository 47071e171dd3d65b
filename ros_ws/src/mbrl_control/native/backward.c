/* The backward pass of iLQR: what backward.py says in NumPy, for NX states and NU controls.

   Rows of states and of controls are whole vectors of 8 numbers, of which the last are zero; matrices are added up row
   by row, a number times a row each time. */
#include <math.h>
#include <string.h>
#pragma GCC optimize("O3")
typedef double V __attribute__((vector_size(64)));
typedef union { V v[(NX + 7) / 8]; double n[(NX + 7) / 8 * 8]; } States;
typedef union { V v[(NU + 7) / 8]; double n[(NU + 7) / 8 * 8]; } Controls;
#define TRIES 100
#define ENOUGH 1e-10
#define SHRINK 0.6
#define ARMIJO 0.1

/* L of a symmetric positive definite matrix, of those rows and columns that are free; 0 where it is none. */
static int factored(const double m[NU][NU], const int free[NU], double lower[NU][NU]) {
    for (int j = 0; j < NU; j++) {
        if (!free[j]) continue;
        double pivot = m[j][j];
        for (int k = 0; k < j; k++)
            if (free[k]) pivot -= lower[j][k] * lower[j][k];
        if (!(pivot > 1e-14 * fabs(m[j][j])) || !isfinite(pivot)) return 0;
        lower[j][j] = sqrt(pivot);
        for (int i = j + 1; i < NU; i++) {
            if (!free[i]) continue;
            double rest = m[i][j];
            for (int k = 0; k < j; k++)
                if (free[k]) rest -= lower[i][k] * lower[j][k];
            lower[i][j] = rest / lower[j][j];
        }
    }
    return 1;
}

static void solved(const double lower[NU][NU], const int free[NU], double x[NU]) {
    for (int i = 0; i < NU; i++) {
        if (!free[i]) { x[i] = 0.0; continue; }
        for (int k = 0; k < i; k++)
            if (free[k]) x[i] -= lower[i][k] * x[k];
        x[i] /= lower[i][i];
    }
    for (int i = NU - 1; i >= 0; i--) {
        if (!free[i]) continue;
        for (int k = i + 1; k < NU; k++)
            if (free[k]) x[i] -= lower[k][i] * x[k];
        x[i] /= lower[i][i];
    }
}

static double value(const double h[NU][NU], const double g[NU], const double x[NU]) {
    double sum = 0.0;
    for (int i = 0; i < NU; i++) {
        double row = 0.0;
        for (int j = 0; j < NU; j++) row += h[i][j] * x[j];
        sum += x[i] * (g[i] + 0.5 * row);
    }
    return sum;
}

static double within(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* The least of x'hx/2 + g'x between low and high, by projected Newton steps; 0 where h is not positive definite.
   What stays free of its bounds, and the factor of h there. */
static int bounded(const double h[NU][NU], const double g[NU], const double *low, const double *high, double x[NU],
                   int free[NU], double lower[NU][NU]) {
    int all = 1;
    for (int i = 0; i < NU; i++) free[i] = 1;
    if (!factored(h, free, lower)) return 0;
    double first[NU];
    for (int i = 0; i < NU; i++) first[i] = -g[i];
    solved(lower, free, first);
    for (int i = 0; i < NU; i++) all &= first[i] >= low[i] && first[i] <= high[i];
    if (all) { memcpy(x, first, sizeof first); return 1; }
    for (int i = 0; i < NU; i++) x[i] = within(0.0, low[i], high[i]);
    double cost = value(h, g, x);
    for (int tries = 0; tries < TRIES; tries++) {
        double slope[NU], step[NU], norm = 0.0, descent = 0.0;
        int any = 0;
        for (int i = 0; i < NU; i++) {
            slope[i] = g[i];
            for (int j = 0; j < NU; j++) slope[i] += h[i][j] * x[j];
            free[i] = !((x[i] <= low[i] && slope[i] > 0.0) || (x[i] >= high[i] && slope[i] < 0.0));
            any |= free[i];
            if (free[i]) norm = fmax(norm, fabs(slope[i]) * (high[i] - low[i]));
            step[i] = -slope[i];
        }
        if (!factored(h, free, lower)) return 0;
        if (!any || norm < ENOUGH * (1.0 + fabs(cost))) return 1;
        solved(lower, free, step);
        for (int i = 0; i < NU; i++) descent += step[i] * slope[i];
        double share = 1.0, tried[NU], found = cost;
        for (;; share *= SHRINK) {
            for (int i = 0; i < NU; i++) tried[i] = within(x[i] + share * step[i], low[i], high[i]);
            found = value(h, g, tried);
            if (found - cost <= ARMIJO * share * descent) break;
            if (share < 1e-12) return 1;
        }
        memcpy(x, tried, sizeof tried);
        cost = found;
    }
    return 1;
}

/* row += number * other */
#define ADD(row, number, other) \
    for (unsigned p = 0; p < sizeof(row) / sizeof(V); p++) (row).v[p] += (number) * (other).v[p]
#define READ(row, from, count) memcpy((row).n, (from), (count) * sizeof(double))

/* Of `arrays` the last three are for what comes of it. Returns the number of knots done: `count` where it went to the
   start. */
long backward(long count, double *const *arrays) {
    const double *A = arrays[0], *B = arrays[1], *gx = arrays[2], *gu = arrays[3], *hxx = arrays[4], *hux = arrays[5];
    const double *huu = arrays[6], *u = arrays[7], *low = arrays[8], *high = arrays[9], *damping = arrays[10];
    double *k = arrays[11], *K = arrays[12], *expected = arrays[13];
    States S[NX], W[NX], WA[NX], Qxx[NX], a[NX], v, w, qx; /* the value after a knot: W, w; before it: S, v */
    Controls WB[NX], Quu[NU], b[NX], both[NU], qu;
    States Qux[NU], ux[NU], gain[NU], most[NU];
    double slope = 0.0, bend = 0.0;
    memset(S, 0, sizeof S); memset(&v, 0, sizeof v); memset(&w, 0, sizeof w); memset(W, 0, sizeof W);
    memset(a, 0, sizeof a); memset(b, 0, sizeof b); memset(ux, 0, sizeof ux);
    for (long t = count - 1; t >= 0; t--) {
        const double *hxx_t = hxx + t * NX * NX;
        double damped[NU][NU], lower[NU][NU] = {{0.0}}, least[NU], largest[NU], rest[NU], inverse[NU];
        int free[NU], crossed = 0;
        for (int i = 0; i < NX; i++) {
            READ(a[i], A + (t * NX + i) * NX, NX);
            READ(b[i], B + (t * NX + i) * NU, NU);
            READ(W[i], hxx_t + i * NX, NX);
            ADD(W[i], 1.0, S[i]);
            w.n[i] = v.n[i] + gx[t * NX + i];
        }
        for (int i = 0; i < NU; i++) {
            READ(ux[i], hux + (t * NU + i) * NX, NX);
            for (int j = 0; j < NX; j++) crossed |= ux[i].n[j] != 0.0;
        }
        for (int i = 0; i < NX; i++) {
            States wa = {{{0.0}}};
            Controls wb = {{{0.0}}};
            for (int m = 0; m < NX; m++) {
                ADD(wa, W[i].n[m], a[m]);
                ADD(wb, W[i].n[m], b[m]);
            }
            WA[i] = wa;
            WB[i] = wb;
        }
        qx = (States){{{0.0}}};
        qu = (Controls){{{0.0}}};
        READ(qu, gu + t * NU, NU);
        for (int m = 0; m < NX; m++) {
            ADD(qx, w.n[m], a[m]);
            ADD(qu, w.n[m], b[m]);
        }
        for (int i = 0; i < NX; i++) {
            States row = {{{0.0}}};
            for (int m = 0; m < NX; m++) ADD(row, a[m].n[i], WA[m]);
            Qxx[i] = row;
        }
        for (int i = 0; i < NU; i++) {
            States row = {{{0.0}}};
            Controls square = {{{0.0}}}, cross = {{{0.0}}};
            READ(square, huu + (t * NU + i) * NU, NU);
            for (int m = 0; m < NX; m++) {
                ADD(row, b[m].n[i], WA[m]);
                ADD(square, b[m].n[i], WB[m]);
            }
            if (crossed) /* + hux A, and hux B both ways */
                for (int m = 0; m < NX; m++) {
                    ADD(row, ux[i].n[m], a[m]);
                    ADD(cross, ux[i].n[m], b[m]);
                }
            Qux[i] = row;
            Quu[i] = square;
            both[i] = cross;
        }
        for (int i = 0; i < NU; i++) {
            least[i] = low[i] - u[t * NU + i];
            largest[i] = high[i] - u[t * NU + i];
            for (int j = 0; j < NU; j++) {
                Quu[i].n[j] += both[i].n[j] + both[j].n[i];
                damped[i][j] = Quu[i].n[j] + (i == j ? damping[i] : 0.0);
            }
        }
        double *kt = k + t * NU, *Kt = K + t * NU * NX;
        if (!bounded((const double(*)[NU])damped, qu.n, least, largest, kt, free, lower)) return count - 1 - t;
        for (int i = 0; i < NU; i++) inverse[i] = 1.0 / lower[i][i];
        for (int i = 0; i < NU; i++) { /* K = -(L L^T)^-1 Qux of what is free, all columns at once */
            States row = {{{0.0}}};
            if (free[i]) {
                ADD(row, -1.0, Qux[i]);
                for (int m = 0; m < i; m++) ADD(row, -lower[i][m], gain[m]);
                for (unsigned p = 0; p < sizeof row / sizeof(V); p++) row.v[p] *= inverse[i];
            }
            gain[i] = row;
        }
        for (int i = NU - 1; i >= 0; i--) {
            if (free[i]) {
                States row = gain[i];
                for (int m = i + 1; m < NU; m++) ADD(row, -lower[m][i], gain[m]);
                for (unsigned p = 0; p < sizeof row / sizeof(V); p++) row.v[p] *= inverse[i];
                gain[i] = row;
            }
            memcpy(Kt + i * NX, gain[i].n, NX * sizeof(double));
        }
        /* S = Qxx + K'Quu K + K'Qux + Qux'K, v = qx + K'(Quu k + qu) + Qux'k */
        v = qx;
        for (int i = 0; i < NU; i++) {
            States row = Qux[i];
            rest[i] = qu.n[i];
            for (int m = 0; m < NU; m++) {
                rest[i] += Quu[i].n[m] * kt[m];
                ADD(row, Quu[i].n[m], gain[m]);
            }
            most[i] = row;
            slope += kt[i] * qu.n[i];
            bend += 0.5 * kt[i] * (rest[i] - qu.n[i]);
            ADD(v, rest[i], gain[i]);
            ADD(v, kt[i], Qux[i]);
        }
        for (int i = 0; i < NX; i++) {
            States row = Qxx[i];
            for (int m = 0; m < NU; m++) {
                ADD(row, gain[m].n[i], most[m]);
                ADD(row, Qux[m].n[i], gain[m]);
            }
            S[i] = row;
        }
        for (int i = 0; i < NX; i++)
            for (int j = 0; j < i; j++) S[i].n[j] = S[j].n[i] = 0.5 * (S[i].n[j] + S[j].n[i]);
    }
    expected[0] = slope;
    expected[1] = bend;
    return count;
}
