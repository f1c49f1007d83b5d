// The token that greedy decoding takes.
#pragma once

#include "isa.h"

namespace octavo {

// ids [rows]: of logits [rows, width] the first of the largest; -1 where one is not finite.
void argmax(const float* logits, int64_t num_rows, int64_t width, int64_t* ids, int thread,
            int num_threads);

}  // namespace octavo
