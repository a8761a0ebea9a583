#include "plan.h"
#include "simd_avx512.h"
#include "encode.h"
#include "decoder.h"
#include "decoder_amx.h"
#include "density.h"
#include "feature_bits.h"

const apm::Kernels apm::amx_kernels = {"amx", encode_tile, half_decode_tile, half_decode_backward_tile, slot_backward,
                                       density_tile, density_backward_tile, disturb_features, round_features,
                                          add_bit_slopes};
