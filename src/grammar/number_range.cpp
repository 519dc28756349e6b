#include "grammar/number_range.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <nlohmann/json.hpp>

namespace nemoforge::grammar {
namespace {

constexpr size_t kMaxWholeDigits = 18;  // fits int64
constexpr size_t kExactDigits = 15;     // that a double tells apart

Expr digits(char first, char last) {
  return one_of({{static_cast<char32_t>(first), static_cast<char32_t>(last)}});
}

Expr digit() {
  return digits('0', '9');
}

int compare_whole(const std::string& a, const std::string& b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  return a.compare(b);
}

int compare(const Decimal& a, const Decimal& b) {  // of magnitudes
  if (const int order = compare_whole(a.whole, b.whole); order != 0) return order;
  return a.fraction.compare(b.fraction);  // as no zeros trail
}

bool is_zero(const Decimal& value) {
  return value.whole == "0" && value.fraction.empty();
}

std::string successor(std::string whole) {
  for (size_t i = whole.size(); i-- > 0;) {
    if (whole[i] != '9') {
      ++whole[i];
      return whole;
    }
    whole[i] = '0';
  }
  return "1" + whole;
}

std::string predecessor(std::string whole) {  // of a positive number
  for (size_t i = whole.size(); i-- > 0;) {
    if (whole[i] != '0') {
      --whole[i];
      break;
    }
    whole[i] = '9';
  }
  if (whole.size() > 1 && whole[0] == '0') whole.erase(0, 1);
  return whole;
}

// A choice of the parts that are not empty languages (null); null where all are.
Expr choice_of(std::vector<Expr> parts) {
  std::erase(parts, nullptr);
  if (parts.empty()) return nullptr;
  return parts.size() == 1 ? parts[0] : choice(std::move(parts));
}

Expr followed_by(Expr first, Expr rest) {
  return rest == nullptr ? nullptr : sequence({std::move(first), std::move(rest)});
}

// The numerals of the same length from `low` to `high`, from the digit at `pos` on; `at_low` and `at_high`:
// so far equal to that end.
Expr numerals(const std::string& low, const std::string& high, size_t pos, bool at_low, bool at_high) {
  const auto num_left = static_cast<int32_t>(low.size() - pos);
  if (num_left == 0) return sequence({});
  if (!at_low && !at_high) return repeat(digit(), num_left, num_left);
  char first = at_low ? low[pos] : '0';
  char last = at_high ? high[pos] : '9';
  if (at_low && at_high && first == last)
    return sequence({digits(first, first), numerals(low, high, pos + 1, true, true)});
  std::vector<Expr> parts;
  if (at_low) parts.push_back(sequence({digits(first, first), numerals(low, high, pos + 1, true, false)}));
  if (at_high) parts.push_back(sequence({digits(last, last), numerals(low, high, pos + 1, false, true)}));
  if (at_low) ++first;
  if (at_high) --last;
  if (first <= last)
    parts.push_back(sequence({digits(first, last), repeat(digit(), num_left - 1, num_left - 1)}));
  return choice_of(std::move(parts));
}

// The whole numbers from `low` (at least 1) to `high`; null where there are none.
Expr whole_numbers(const std::string& low, std::string high) {
  if (high.size() > kMaxWholeDigits) high = std::string(kMaxWholeDigits, '9');
  if (compare_whole(low, high) > 0) return nullptr;
  if (low.size() == high.size()) return numerals(low, high, 0, true, true);
  std::vector<Expr> parts = {numerals(low, std::string(low.size(), '9'), 0, true, true),
                             numerals("1" + std::string(high.size() - 1, '0'), high, 0, true, true)};
  // The lengths between have all their numbers.
  if (high.size() - low.size() > 1) {
    parts.push_back(sequence({digits('1', '9'), repeat(digit(), static_cast<int32_t>(low.size()),
                                                       static_cast<int32_t>(high.size()) - 2)}));
  }
  return choice_of(std::move(parts));
}

// One end of a range of fractions, in kDigits of which all are there.
struct FractionEnd {
  std::string digits;
  bool is_exclusive = false;
};

class Fractions {
 public:
  Fractions(FractionEnd low, FractionEnd high) : low_(std::move(low)), high_(std::move(high)) {}

  // Nothing, or a point and digits; null where no fraction is in the range.
  Expr with_point(bool at_low, bool at_high) const {
    const Expr some = followed_by(literal("."), more(0, at_low, at_high));
    if (!may_end(0, at_low, at_high)) return some;
    return some == nullptr ? sequence({}) : repeat(some, 0, 1);
  }

 private:
  bool may_end(size_t pos, bool at_low, bool at_high) const {
    const auto is_rest_zero = [&](const FractionEnd& end) {
      return end.digits.find_first_not_of('0', pos) == std::string::npos;
    };
    if (at_low && (!is_rest_zero(low_) || low_.is_exclusive)) return false;
    return !at_high || !is_rest_zero(high_) || !high_.is_exclusive;
  }

  // At least one digit more.
  Expr more(size_t pos, bool at_low, bool at_high) const {
    const size_t num_left = low_.digits.size() - pos;
    if (num_left == 0) return nullptr;
    if (!at_low && !at_high) return repeat(digit(), 1, static_cast<int32_t>(num_left));
    char first = at_low ? low_.digits[pos] : '0';
    char last = at_high ? high_.digits[pos] : '9';
    const auto rest = [&](bool low, bool high) -> Expr {
      const Expr some = more(pos + 1, low, high);
      if (!may_end(pos + 1, low, high)) return some;
      return some == nullptr ? sequence({}) : repeat(some, 0, 1);
    };
    if (at_low && at_high && first == last) return followed_by(digits(first, first), rest(true, true));
    if (first > last) return nullptr;
    std::vector<Expr> parts;
    if (at_low) parts.push_back(followed_by(digits(first, first), rest(true, false)));
    if (at_high) parts.push_back(followed_by(digits(last, last), rest(false, true)));
    if (at_low) ++first;
    if (at_high) --last;
    if (first <= last)
      parts.push_back(
          sequence({digits(first, last), repeat(digit(), 0, static_cast<int32_t>(num_left) - 1)}));
    return choice_of(std::move(parts));
  }

  FractionEnd low_;
  FractionEnd high_;
};

// The magnitudes above zero within [low, high]; without `high` up to the most digits.
Expr magnitudes(const Limit& low, const std::optional<Limit>& high, bool are_whole) {
  if (low.value.whole.size() > kMaxWholeDigits) return nullptr;
  Limit top = {{false, std::string(kMaxWholeDigits, '9'), ""}, false};
  const bool has_top = high && high->value.whole.size() <= kMaxWholeDigits;
  if (has_top) top = *high;
  const int order = compare(low.value, top.value);
  if (order > 0 || (order == 0 && (low.is_exclusive || top.is_exclusive))) return nullptr;
  if (are_whole) {
    const bool above = low.is_exclusive || !low.value.fraction.empty();
    const std::string first = above ? successor(low.value.whole) : low.value.whole;
    const bool below = top.is_exclusive && top.value.fraction.empty();
    if (below && top.value.whole == "0") return nullptr;
    return whole_numbers(first, below ? predecessor(top.value.whole) : top.value.whole);
  }
  const size_t whole_size = has_top ? top.value.whole.size() : low.value.whole.size();
  const size_t num_digits = whole_size < kExactDigits ? kExactDigits - whole_size : 0;
  if (low.value.fraction.size() > num_digits || top.value.fraction.size() > num_digits) return nullptr;
  const auto padded = [&](const Limit& limit) -> FractionEnd {
    std::string all = limit.value.fraction;
    all.resize(num_digits, '0');
    return {std::move(all), limit.is_exclusive};
  };
  const Fractions fractions(padded(low), padded(top));
  const std::string& first = low.value.whole;
  const std::string& last = top.value.whole;
  if (first == last) return followed_by(literal(first), fractions.with_point(true, true));
  Expr between = nullptr;
  if (const std::string second = successor(first); second != last) {
    between = whole_numbers(second, predecessor(last));
    if (between != nullptr) between = sequence({between, fractions.with_point(false, false)});
  }
  return choice_of({followed_by(literal(first), fractions.with_point(true, false)),
                    followed_by(literal(last), fractions.with_point(false, true)), std::move(between)});
}

// Limits of the magnitude of numbers with that sign, but zero; nothing where none is within.
struct MagnitudeLimits {
  Limit low;
  std::optional<Limit> high;
};

std::optional<MagnitudeLimits> limits_of_sign(const std::optional<Limit>& near,
                                              const std::optional<Limit>& far, bool is_negative) {
  MagnitudeLimits out{{{}, true}, far};
  if (near && near->value.is_negative == is_negative && !is_zero(near->value)) out.low = *near;
  if (far && (is_zero(far->value) || far->value.is_negative != is_negative)) return std::nullopt;
  return out;
}

bool allows_zero(const Limits& limits) {
  if (limits.min && (is_zero(limits.min->value) ? limits.min->is_exclusive : !limits.min->value.is_negative))
    return false;
  return !limits.max ||
         (is_zero(limits.max->value) ? !limits.max->is_exclusive : !limits.max->value.is_negative);
}

Expr within(const Limits& limits, bool are_whole) {
  std::vector<Expr> parts;
  if (allows_zero(limits)) {
    const Expr zero = literal("0");
    parts.push_back(are_whole ? zero : sequence({zero, repeat(literal(".0"), 0, 1)}));
  }
  if (const auto positive = limits_of_sign(limits.min, limits.max, false))
    parts.push_back(magnitudes(positive->low, positive->high, are_whole));
  if (const auto negative = limits_of_sign(limits.max, limits.min, true))
    parts.push_back(followed_by(literal("-"), magnitudes(negative->low, negative->high, are_whole)));
  return choice_of(std::move(parts));
}

}  // namespace

Decimal decimal_of(const io::Json& number) {
  std::string text = io::dump_json(number);
  if (!number.is_number_integer()) {
    std::array<char, 512> buffer{};  // a double has 309 digits before its point at most
    const auto [end, failure] = std::to_chars(buffer.data(), buffer.data() + buffer.size(),
                                              number.get<double>(), std::chars_format::fixed);
    if (failure == std::errc()) text.assign(buffer.data(), end);
  }
  Decimal out;
  out.is_negative = text.starts_with('-');
  if (out.is_negative) text.erase(0, 1);
  const size_t point = std::min(text.find('.'), text.size());
  out.whole = text.substr(0, point);
  if (point < text.size()) out.fraction = text.substr(point + 1);
  while (out.fraction.ends_with('0')) out.fraction.pop_back();
  if (is_zero(out)) out.is_negative = false;
  return out;
}

Limits limits_in_schema(const io::Json& schema) {
  const auto limit = [&](const char* inclusive, const char* exclusive,
                         bool is_lower) -> std::optional<Limit> {
    const io::Json* value = nullptr;
    Limit out;
    if (const auto found = schema.find(inclusive); found != schema.end() && found->is_number())
      value = &*found;
    if (const auto found = schema.find(exclusive); found != schema.end()) {
      if (found->is_number() && (value == nullptr || (is_lower ? *found >= *value : *found <= *value))) {
        value = &*found;
        out.is_exclusive = true;
      }
      if (*found == true) out.is_exclusive = true;
    }
    if (value == nullptr) return std::nullopt;
    out.value = decimal_of(*value);
    return out;
  };
  return {limit("minimum", "exclusiveMinimum", true), limit("maximum", "exclusiveMaximum", false)};
}

Expr integers_within(const Limits& limits) {
  return within(limits, true);
}

Expr numbers_within(const Limits& limits) {
  return within(limits, false);
}

}  // namespace nemoforge::grammar
