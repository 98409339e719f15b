// The layout of float and double, and the coefficients and bounds of vector mathematics in each.
#pragma once

#include "cpu/simd.h"

namespace dl::DL_LEVEL {

// Coefficients are minimax (Remez) in relative error, the low ones rounded first; degree 0 first.
template <class T>
struct Format;

template <>
struct Format<float> {
  using Int = int32_t;
  using UInt = uint32_t;
  static constexpr int kMantissaBits = 23, kBias = 127;
  static constexpr float kMinNormal = 0x1p-126f,
                         kRound = 0x1.8p23f;  // x + kRound - kRound rounds to an integer
  static constexpr float kLn2High = 0x1.62ep-1f, kLn2Low = 0x1.0bfbe8p-15f;
  // exp underflows to 0 below, overflows above; expm1 is -1 below; tanh is 1 above
  static constexpr float kExpLow = -104, kExpHigh = 89, kExpm1Low = -18, kTanhHigh = 9.1f,
                         kTiny = 0x1p-26f;
  // exp of less in magnitude is a normal number; sigmoid is 0 below, 1 above
  static constexpr float kExpPlain = 87, kSigmoidLow = -105, kSigmoidHigh = 64;
  // gelu_tanh is 0 below
  static constexpr float kGeluTanhLow = -10.8f;
  // sin and cos: pi / 2 in parts of few bits; beyond the bound libm takes over
  static constexpr float kHalfPi[] = {1.5703125f, 0.00048375129699707031f, 7.5495336204767227e-08f,
                                      2.5633440682570896e-12f};
  static constexpr float kTrigBound = 6000;
  // (exp(r) - 1 - r) / r^2, |r| <= ln 2 / 2
  static constexpr float kExp[] = {0.49999997f, 0.16666539f, 0.0416677445f, 0.00836706255f,
                                   0.00138392416f};
  // (2^r - 1) / r, |r| <= 1/2
  static constexpr float kExp2[] = {0.693147182f,   0.240226477f,   0.0555035993f,
                                    0.00961850584f, 0.00133908063f, 0.000153264627f};
  // (2 atanh(s) / s - 2) / s^2, s <= 3 - 2 sqrt 2, in s^2
  static constexpr float kLog[] = {0.666666627f, 0.400009722f, 0.284988075f, 0.242781788f};
  // (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4, |r| <= pi / 4, in r^2
  static constexpr float kSin[] = {-0.166666552f, 0.0083321901f, -0.000195184053f};
  static constexpr float kCos[] = {0.0416666679f, -0.00138889824f, 2.48229699e-05f,
                                   -2.89744861e-07f};
  // erf(x) / x - 1, |x| <= 1, in x^2
  static constexpr float kErf[] = {0.128379166f,   -0.376126289f,    0.112836182f,   -0.0268551223f,
                                   0.00519071659f, -0.000803050934f, 7.91918792e-05f};
  // Normal tail: (t + c) exp(t^2 / 2) P(N > t), t >= 0, in v = (t - c) / (t + c)
  static constexpr float kTailCentre = 2.5f;
  static constexpr float kTail[] = {
      0.706656635f, -0.433692008f,  0.131986976f,    0.00923587568f,   -0.0163861848f,
      -0.00160083f, 0.00252393261f, 0.000684412662f, -0.000311622774f, -0.000157702292f};
  static constexpr float kTailEnd = 15, kErfEnd = 4;  // the tail is 0 there, erf 1
};

template <>
struct Format<double> {
  using Int = int64_t;
  using UInt = uint64_t;
  static constexpr int kMantissaBits = 52, kBias = 1023;
  static constexpr double kMinNormal = 0x1p-1022, kRound = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kExpLow = -746, kExpHigh = 710, kExpm1Low = -38, kTanhHigh = 19.1,
                          kTiny = 0x1p-55, kExpPlain = 708, kSigmoidLow = -747, kSigmoidHigh = 300,
                          kGeluTanhLow = -21.6;
  static constexpr double kHalfPi[] = {1.5707963267341256, 6.077100506303966e-11,
                                       2.0222662487111665e-21, 8.4784276603688996e-32};
  static constexpr double kTrigBound = 1e6;
  static constexpr double kExp[] = {0.5,
                                    0.16666666666666677,
                                    0.041666666666666706,
                                    0.0083333333333219222,
                                    0.0013888888888858293,
                                    0.00019841269885886127,
                                    2.4801587343752175e-05,
                                    2.7557244044592712e-06,
                                    2.7557392646387291e-07,
                                    2.5109141831293634e-08,
                                    2.0811402526783986e-09};
  static constexpr double kExp2[] = {
      0.69314718055994529,    0.24022650695910072,    0.055504108664821736,
      0.0096181291076285619,  0.0013333558146381742,  0.00015403530393172049,
      1.5252733864841394e-05, 1.3215487003219337e-06, 1.0178047532720867e-07,
      7.0548149099893522e-09, 4.4572390834988364e-10, 2.5855134180332593e-11};
  static constexpr double kLog[] = {0.6666666666666734,  0.39999999999415614, 0.28571428742420624,
                                    0.22222198551490943, 0.18183566218043581, 0.15313985595150409,
                                    0.14796744757266778};
  static constexpr double kSin[] = {-0.16666666666666632,    0.0083333333333224548,
                                    -0.00019841269829813394, 2.7557313687565919e-06,
                                    -2.5050756713364037e-08, 1.589668178927936e-10};
  static constexpr double kCos[] = {0.041666666666666588,   -0.0013888888888874444,
                                    2.4801587289642392e-05, -2.7557314389474075e-07,
                                    2.0875727348544807e-09, -1.135981787742374e-11};
  static constexpr double kErf[] = {
      0.12837916709551259,     -0.37612638903183748,    0.11283791670954882,
      -0.026866170645077358,   0.0052239776248231163,   -0.0008548326981104537,
      0.00012055331120705613,  -1.4925595465380529e-05, 1.6461003366214708e-06,
      -1.6350340111855394e-07, 1.4659938996918844e-08,  -1.1373403931361755e-09,
      5.9579871104082921e-11};
  static constexpr double kTailCentre = 4;
  static constexpr double kTail[] = {
      0.7552851304157515,      -0.60789664197189208,    0.38713740074221947,
      -0.18652185795966542,    0.060396574890666264,    -0.0075401889664351591,
      -0.0034796923616067562,  0.0016308184532797584,   0.00013334424852304039,
      -0.00023109490371533929, -1.9078439694127841e-06, 3.5144569668266268e-05,
      7.1497550849062395e-07,  -5.9200112610976241e-06, -6.2522840268490901e-07,
      1.0218572065627699e-06,  2.6415450594872643e-07,  -1.5659211495370718e-07,
      -7.7210375049362114e-08, 1.60692628175183e-08,    1.4618999773366621e-08,
      -3.3904824202059343e-10, -1.1965354628025561e-09};
  static constexpr double kTailEnd = 39, kErfEnd = 6;
};

template <class T>
using Int = typename Format<T>::Int;
template <class T>
using IntVec = Vec<Int<T>>;
template <class T>
using UInt = typename Format<T>::UInt;
template <class T>
using UIntVec = Vec<UInt<T>>;

}  // namespace dl::DL_LEVEL
