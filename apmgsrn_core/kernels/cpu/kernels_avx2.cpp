#include "plan.h"
#include "simd_avx2.h"
#include "encode.h"
#include "decoder.h"
#include "density.h"
#include "feature_bits.h"

const apm::Kernels apm::avx2_kernels = {"avx2", encode_tile, decode_tile, decode_backward_tile, slot_backward,
                                          density_tile, density_backward_tile, disturb_features, round_features,
                                          add_bit_slopes};
