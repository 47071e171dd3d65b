/* The backward pass of iLQR: what backward.py says in NumPy, for NX states and NU controls.

   Rows of states are WX numbers wide, a multiple of 8 of which the last are zero, so that every inner loop is made of
   whole vectors. */
#include <math.h>
#include <string.h>
#pragma GCC optimize("O3")
#define WX ((NX + 7) / 8 * 8)
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

/* out = a^T m, with m [NX][WX] and a [NX][n] of rows `wide` wide */
#define TRANSPOSED(out, a, n, m)                                  \
    for (int i = 0; i < (n); i++) {                               \
        double row[WX] = {0.0};                                   \
        for (int k = 0; k < NX; k++)                              \
            for (int j = 0; j < WX; j++) row[j] += (a)[k][i] * (m)[k][j]; \
        memcpy((out)[i], row, sizeof row);                        \
    }

/* Returns the number of knots done: `count` where it went to the start. */
long backward(long count, const double *A, const double *B, const double *gx, const double *gu, const double *hxx,
              const double *hux, const double *huu, const double *u, const double *low, const double *high,
              const double *damping, double *k, double *K, double *expected) {
    double W[NX][WX] = {{0.0}}, w[NX] = {0.0}; /* value of where a knot leads, and the cost there */
    double V[NX][WX] = {{0.0}}, v[NX] = {0.0};
    double slope = 0.0, bend = 0.0;
    for (long t = count - 1; t >= 0; t--) {
        const double(*At)[NX] = (const double(*)[NX])(A + t * NX * NX);
        const double(*Bt)[NU] = (const double(*)[NU])(B + t * NX * NU);
        double a[NX][WX] = {{0.0}}, WA[NX][WX], WB[NX][NU], Qxx[NX][WX], Qux[NU][WX], Quu[NU][NU], damped[NU][NU];
        double qx[WX] = {0.0}, qu[NU], lower[NU][NU] = {{0.0}}, least[NU], most[NU], ux[NU][WX] = {{0.0}};
        int free[NU];
        for (int i = 0; i < NX; i++) {
            memcpy(a[i], At[i], sizeof At[i]);
            w[i] = v[i] + gx[t * NX + i];
            for (int j = 0; j < NX; j++) W[i][j] = V[i][j] + hxx[(t * NX + i) * NX + j];
        }
        for (int i = 0; i < NU; i++) memcpy(ux[i], hux + (t * NU + i) * NX, NX * sizeof(double));
        TRANSPOSED(WA, W, NX, a) /* W is symmetric */
        TRANSPOSED(Qxx, At, NX, WA)
        TRANSPOSED(Qux, Bt, NU, WA)
        for (int i = 0; i < NU; i++) /* + hux A */
            for (int m = 0; m < NX; m++)
                for (int j = 0; j < WX; j++) Qux[i][j] += ux[i][m] * a[m][j];
        for (int i = 0; i < NX; i++)
            for (int j = 0; j < NU; j++) {
                double sum = 0.0;
                for (int m = 0; m < NX; m++) sum += W[i][m] * Bt[m][j];
                WB[i][j] = sum;
            }
        for (int i = 0; i < NU; i++) {
            double sum = gu[t * NU + i];
            for (int m = 0; m < NX; m++) sum += Bt[m][i] * w[m];
            qu[i] = sum;
            least[i] = low[i] - u[t * NU + i];
            most[i] = high[i] - u[t * NU + i];
            for (int j = 0; j < NU; j++) {
                double both = huu[(t * NU + i) * NU + j];
                for (int m = 0; m < NX; m++)
                    both += Bt[m][i] * WB[m][j] + ux[i][m] * Bt[m][j] + Bt[m][i] * ux[j][m];
                Quu[i][j] = both;
                damped[i][j] = both + (i == j ? damping[i] : 0.0);
            }
        }
        for (int m = 0; m < NX; m++)
            for (int j = 0; j < NX; j++) qx[j] += At[m][j] * w[m];
        double *kt = k + t * NU, *Kt = K + t * NU * NX;
        if (!bounded((const double(*)[NU])damped, qu, least, most, kt, free, lower)) return count - 1 - t;
        double gain[NU][WX] = {{0.0}};
        for (int j = 0; j < NX; j++) {
            double x[NU];
            for (int i = 0; i < NU; i++) x[i] = -Qux[i][j];
            solved((const double(*)[NU])lower, free, x);
            for (int i = 0; i < NU; i++) Kt[i * NX + j] = gain[i][j] = x[i];
        }
        /* V = Qxx + K'Quu K + K'Qux + Qux'K, v = qx + K'(Quu k + qu) + Qux'k */
        double most_of[NU][WX], rest[NU];
        for (int i = 0; i < NU; i++) {
            double row[WX];
            memcpy(row, Qux[i], sizeof row);
            rest[i] = qu[i];
            for (int m = 0; m < NU; m++) {
                rest[i] += Quu[i][m] * kt[m];
                for (int j = 0; j < WX; j++) row[j] += Quu[i][m] * gain[m][j];
            }
            memcpy(most_of[i], row, sizeof row);
            slope += kt[i] * qu[i];
            bend += 0.5 * kt[i] * (rest[i] - qu[i]);
        }
        for (int i = 0; i < NX; i++) {
            double row[WX], sum = qx[i];
            memcpy(row, Qxx[i], sizeof row);
            for (int m = 0; m < NU; m++) {
                sum += gain[m][i] * rest[m] + Qux[m][i] * kt[m];
                for (int j = 0; j < WX; j++) row[j] += gain[m][i] * most_of[m][j] + Qux[m][i] * gain[m][j];
            }
            v[i] = sum;
            memcpy(V[i], row, sizeof row);
        }
        for (int i = 0; i < NX; i++)
            for (int j = 0; j < i; j++) V[i][j] = V[j][i] = 0.5 * (V[i][j] + V[j][i]);
    }
    expected[0] = slope;
    expected[1] = bend;
    return count;
}
