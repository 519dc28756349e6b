#include "train/host_copies.h"

namespace nemoforge::train {
namespace {

Tensor downloaded(ops::Backend& backend, const ConstTensorView& view) {
  Tensor copy = make_host_tensor(view.dtype(), view.shape());
  backend.synchronize();
  backend.download(view.raw(), copy.view().raw(), view.numel() * dtype_bytes(view.dtype()));
  return copy;
}

}  // namespace

TensorView HostCopies::of(const TensorView& view) {
  if (!view || backend_->shares_host_memory()) return view;
  copies_.push_back(downloaded(*backend_, view));
  return copies_.back().view();
}

ConstTensorView HostCopies::of(const ConstTensorView& view) {
  if (!view || backend_->shares_host_memory()) return view;
  copies_.push_back(downloaded(*backend_, view));
  return copies_.back().view();
}

ParameterSet HostCopies::values_of(const ParameterSet& set) {
  ParameterSet result;
  for (const Parameter& parameter : set.parameters) {
    Parameter& copy = result.parameters.emplace_back(parameter);
    copy.value = of(parameter.value);
    copy.grad = {};
    copy.copy = {};
  }
  return result;
}

std::vector<FrozenTensor> HostCopies::of(const std::vector<FrozenTensor>& frozen) {
  std::vector<FrozenTensor> result;
  for (const FrozenTensor& tensor : frozen) result.push_back({tensor.name, of(tensor.value)});
  return result;
}

}  // namespace nemoforge::train
