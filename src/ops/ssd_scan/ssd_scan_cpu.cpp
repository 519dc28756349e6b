// Decode rows take the recurrence, which is bound by reading and writing the state: a task is a range of
// heads of the sequences. Other sequences go through their chunks in order: a task is some heads of one group
// of a sequence, which share the dot products of the group.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssd_scan/ssd_scan_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/host_rows.h"
#include "ops/parallel_ranges.h"
#include "ops/scratch.h"
#include "ops/ssd_scan/ssd_chunk-inl.h"
#include "ops/ssd_scan/ssd_recurrence-inl.h"
#include "ops/ssd_scan/ssd_scan.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// A chunk of at most this many rows takes the recurrence: its rows would fill less than half of a vector. The
// choice depends on the sequence's own rows within its chunk, so that pieces of a prompt give the bits of the
// whole.
constexpr int64_t kRecurrenceRows = 8;

// to[i] = row[column + i] as fp32 for i < count.
void load_row(const ConstTensorView& view, int64_t row, int64_t column, int64_t count, float* to) {
  dispatch_activation(view.dtype(), [&]<typename T>(std::type_identity<T>) {
    convert(view.data<T>() + row * view.row_stride() + column, to, count);
  });
}

// y[row, head] = from + D x.
void store_output(const SsdScanArgs& args, int64_t row, int64_t head, const float* from, const float* x) {
  const MatmulTag d;
  const auto skip = hn::Set(d, args.d.data<float>()[head]);
  dispatch_activation(args.y.dtype(), [&]<typename T>(std::type_identity<T>) {
    T* y = args.y.data<T>() + row * args.y.row_stride() + head * args.head_dim;
    for_each_vector(
        d, args.head_dim,
        [&](int64_t p)
            HWY_ATTR { store(hn::MulAdd(skip, hn::LoadU(d, x + p), hn::LoadU(d, from + p)), d, y + p); },
        [&](int64_t p, int64_t rest) HWY_ATTR {
          const auto value = hn::MulAdd(skip, load_partial(d, x + p, rest), load_partial(d, from + p, rest));
          store_partial(value, d, y + p, rest);
        });
  });
}

// dt of one head for rows [begin, begin + count).
void load_dt(const SsdScanArgs& args, int64_t begin, int64_t count, int64_t head, float* dt) {
  const float bias = args.dt_bias.data<float>()[head];
  dispatch_activation(args.dt_raw.dtype(), [&]<typename T>(std::type_identity<T>) {
    const T* dt_raw = args.dt_raw.data<T>() + begin * args.dt_raw.row_stride() + head;
    for (int64_t i = 0; i < count; ++i)
      dt[i] = static_cast<float>(dt_raw[i * args.dt_raw.row_stride()]) + bias;
  });
  const MatmulTag d;
  for_each_vector(
      d, count, [&](int64_t i) HWY_ATTR { hn::StoreU(softplus(d, hn::LoadU(d, dt + i)), d, dt + i); },
      [&](int64_t i, int64_t rest)
          HWY_ATTR { store_partial(softplus(d, load_partial(d, dt + i, rest)), d, dt + i, rest); });
}

// Row `i` of the loaded rows, by the recurrence; x, inputs and dt are of `head`.
void step(const SsdScanArgs& args, ChunkBuffers& buffers, int64_t row, int64_t i, int64_t head,
          float* state) {
  const float decay = static_cast<float>(std::exp(log_decay(args.a_log.data<float>()[head], buffers.dt[i])));
  float* inputs = buffers.inputs + i * buffers.padded_head_dim;
  recurrence_step(state, decay, inputs, buffers.b + i * buffers.padded_state_size,
                  buffers.c + i * buffers.padded_state_size, inputs, args.head_dim, args.state_size);
  store_output(args, row, head, inputs, buffers.x + i * buffers.padded_head_dim);
}

// b and c of a group for rows [begin, begin + count).
void load_group(const SsdScanArgs& args, ChunkBuffers& buffers, int64_t begin, int64_t count, int64_t group) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t offset = i * buffers.padded_state_size;
    load_row(args.b, begin + i, group * args.state_size, args.state_size, buffers.b + offset);
    load_row(args.c, begin + i, group * args.state_size, args.state_size, buffers.c + offset);
    std::fill_n(buffers.b + offset + args.state_size, buffers.padded_state_size - args.state_size, 0.0f);
    std::fill_n(buffers.c + offset + args.state_size, buffers.padded_state_size - args.state_size, 0.0f);
  }
}

// x, dt and X = dt x of a head for rows [begin, begin + count).
void load_head(const SsdScanArgs& args, ChunkBuffers& buffers, int64_t begin, int64_t count, int64_t head) {
  load_dt(args, begin, count, head, buffers.dt);
  for (int64_t i = 0; i < count; ++i) {
    float* x = buffers.x + i * buffers.padded_head_dim;
    float* inputs = buffers.inputs + i * buffers.padded_head_dim;
    load_row(args.x, begin + i, head * args.head_dim, args.head_dim, x);
    for (int64_t p = 0; p < args.head_dim; ++p) inputs[p] = buffers.dt[i] * x[p];
  }
}

void transpose_c(ChunkBuffers& buffers, int64_t count, int64_t state_size) {
  for (int64_t n = 0; n < state_size; ++n) {
    float* row = buffers.c_transposed + n * kChunkRows;
    for (int64_t i = 0; i < count; ++i) row[i] = buffers.c[i * buffers.padded_state_size + n];
    std::fill_n(row + count, kChunkRows - count, 0.0f);
  }
}

// The loaded rows of `head` as matrix products.
void chunk(const SsdScanArgs& args, ChunkBuffers& buffers, int64_t begin, int64_t count, int64_t head,
           float* state) {
  const double last = sum_log_decays(buffers, args.a_log.data<float>()[head], count);
  decay_products(buffers, count);
  chunk_outputs(buffers, state, count, args.head_dim, args.state_size);
  chunk_state(buffers, state, last, count, args.head_dim, args.state_size);
  for (int64_t i = 0; i < count; ++i) {
    float* y = buffers.inputs + i * buffers.padded_head_dim;
    for (int64_t p = 0; p < args.head_dim; ++p) y[p] = buffers.y_transposed[p * kChunkRows + i];
    store_output(args, begin + i, head, y, buffers.x + i * buffers.padded_head_dim);
  }
}

// The kept state of a head, or `temporary` where none is kept.
float* state_of(const SsdScanArgs& args, int64_t sequence_idx, int64_t head, float* temporary) {
  if (!args.ssm_state) return temporary;
  const int64_t head_idx = state_slot(*args.rows, sequence_idx) * args.num_heads + head;
  return args.ssm_state.data<float>() + head_idx * args.head_dim * args.state_size;
}

// Makes the state what it is before the sequence's first row here: zeros at position 0.
void begin_state(const SsdScanArgs& args, int64_t sequence_idx, float* state) {
  if (sequence_rows(*args.rows, sequence_idx).context_len > 0) return;
  std::fill_n(state, args.head_dim * args.state_size, 0.0f);
}

// Decode sequences: items [begin, end) of num_decode * num_heads.
void ssd_scan_decode(const SsdScanArgs& args, int64_t begin, int64_t end, float* scratch) {
  ChunkBuffers buffers(scratch, args.head_dim, args.state_size);
  const int64_t heads_per_group = args.num_heads / args.num_groups;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / args.num_heads;
    const int64_t head = item % args.num_heads;
    if (item == begin || head % heads_per_group == 0)
      load_group(args, buffers, row, 1, head / heads_per_group);
    load_head(args, buffers, row, 1, head);
    float* state = state_of(args, row, head, buffers.state);
    begin_state(args, row, state);
    step(args, buffers, row, 0, head, state);
  }
}

// Heads [first_head, first_head + num_heads) of one group of a sequence that is not among the first
// num_decode.
void ssd_scan_prefill(const SsdScanArgs& args, int64_t sequence_idx, int64_t first_head, int64_t num_heads,
                      float* scratch) {
  ChunkBuffers buffers(scratch, args.head_dim, args.state_size);
  const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
  const auto head_state = [&](int64_t head) {
    return state_of(args, sequence_idx, head,
                    buffers.state + (head - first_head) * args.head_dim * args.state_size);
  };
  for (int64_t head = first_head; head < first_head + num_heads; ++head) {
    begin_state(args, sequence_idx, head_state(head));
  }
  for (int64_t begin = sequence.begin; begin < sequence.end;) {
    const int64_t position = sequence.context_len + begin - sequence.begin;
    const int64_t place = position % args.chunk_size;
    const int64_t chunk_end = std::min(args.chunk_size, (place / kChunkRows + 1) * kChunkRows);
    const int64_t count = std::min(chunk_end - place, sequence.end - begin);
    const bool as_recurrence = count <= kRecurrenceRows;
    load_group(args, buffers, begin, count, first_head / (args.num_heads / args.num_groups));
    if (!as_recurrence) {
      transpose_c(buffers, count, args.state_size);
      chunk_products(buffers, count, args.state_size);
    }
    for (int64_t head = first_head; head < first_head + num_heads; ++head) {
      load_head(args, buffers, begin, count, head);
      if (as_recurrence) {
        for (int64_t i = 0; i < count; ++i) step(args, buffers, begin + i, i, head, head_state(head));
      } else {
        chunk(args, buffers, begin, count, head, head_state(head));
      }
    }
    begin += count;
  }
}

int64_t ssd_scan_scratch_floats(const SsdScanArgs& args, int64_t num_states) {
  const int64_t states = args.ssm_state ? 0 : num_states * args.head_dim * args.state_size;
  return ChunkBuffers::num_floats(args.head_dim, args.state_size) + round_up(states, kPaddedLanes);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {
namespace {

HWY_EXPORT(ssd_scan_decode);
HWY_EXPORT(ssd_scan_prefill);
HWY_EXPORT(ssd_scan_scratch_floats);

// Heads of one prefill task: those of a group, or fewer where that would leave threads without work.
int64_t choose_heads_per_task(const SsdScanArgs& args, int64_t num_threads) {
  const int64_t num_sequences = args.rows->num_sequences - args.rows->num_decode;
  int64_t heads = args.num_heads / args.num_groups;
  while (heads % 2 == 0 && num_sequences * args.num_heads / heads < 2 * num_threads) heads /= 2;
  return heads;
}

}  // namespace

void CpuBackend::ssd_scan(const SsdScanArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.ssm_state);
  const int64_t num_decode = args.rows->num_decode;
  const int64_t num_prefill = args.rows->num_sequences - num_decode;
  const int64_t heads_per_task = choose_heads_per_task(args, pool_.num_threads());
  const int64_t thread_floats = HWY_DYNAMIC_DISPATCH(ssd_scan_scratch_floats)(args, heads_per_task);
  float* scratch = thread_scratch(pool_.num_threads() * thread_floats);

  const auto decode = [&](int64_t begin, int64_t end, int thread_idx) {
    HWY_DYNAMIC_DISPATCH(ssd_scan_decode)(args, begin, end, scratch + thread_idx * thread_floats);
  };
  const int64_t state_bytes = 8 * args.head_dim * args.state_size;  // read and written
  parallel_ranges(pool_, num_decode * args.num_heads, items_per_task(state_bytes), decode);

  const int64_t tasks_per_sequence = args.num_heads / heads_per_task;
  const auto prefill = [&](int64_t begin, int64_t end, int thread_idx) {
    for (int64_t task = begin; task < end; ++task) {
      HWY_DYNAMIC_DISPATCH(ssd_scan_prefill)
      (args, num_decode + task / tasks_per_sequence, task % tasks_per_sequence * heads_per_task,
       heads_per_task, scratch + thread_idx * thread_floats);
    }
  };
  // A row of a head takes about as long as moving a byte for each element of the state.
  const int64_t task_bytes = args.rows->max_query_len * heads_per_task * args.head_dim * args.state_size;
  parallel_ranges(pool_, num_prefill * tasks_per_sequence, items_per_task(task_bytes), prefill);
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
