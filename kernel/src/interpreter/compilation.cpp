#include "compilation.hpp"

#include "sandbox.hpp"

namespace caller::kernel {

std::string pack(const CompileRequest& r) {
  Packer p;
  p << r.code << std::size_t{r.unit} << static_cast<std::size_t>(r.number) << std::size_t{r.show_result}
    << std::size_t{r.ambiguous_is_expression} << static_cast<std::size_t>(r.optimisation) << std::size_t{r.quick}
    << r.debug_path << r.directory;
  return p.take();
}

CompileRequest unpack_request(const std::string& data) {
  Unpacker u(data);
  CompileRequest r;
  r.code = u.text();
  r.unit = static_cast<unsigned>(u.number());
  r.number = static_cast<int>(u.number());
  r.show_result = u.number();
  r.ambiguous_is_expression = u.number();
  r.optimisation = static_cast<int>(u.number());
  r.quick = u.number();
  r.debug_path = u.text();
  r.directory = u.text();
  return r;
}

std::string pack(const Compilation& c) {
  Packer p;
  p << std::size_t{c.ok} << c.text << std::size_t{c.parse_issue} << std::size_t{c.ambiguous} << c.parts.size();
  for (const auto& part : c.parts) {
    p << part.text << part.object << part.entry << std::size_t{part.runs} << part.coroutine << part.late.size();
    for (const auto& late : part.late) p << late.storage << late.symbol << late.size << late.alignment;
    p << part.pieces.size();
    for (const auto& piece : part.pieces)
      p << piece.text_begin << piece.text_end << piece.begin << piece.end << std::size_t{piece.directive}
        << std::size_t{piece.open};
  }
  p << c.functions.size();
  for (const auto& f : c.functions) {
    p << f.key << f.source.name << f.source.hash << f.source.fault << f.source.cells.size();
    for (const auto& cell : f.source.cells) p << static_cast<std::size_t>(cell.number) << cell.text;
  }
  p << c.wanted.size();
  for (const auto& name : c.wanted) p << name;
  return p.take();
}

Compilation unpack_compilation(const std::string& data) {
  Unpacker u(data);
  Compilation c;
  c.ok = u.number();
  c.text = u.text();
  c.parse_issue = u.number();
  c.ambiguous = u.number();
  for (auto n = u.number(); n; --n) {
    CompiledPart part;
    part.text = u.text();
    part.object = u.text();
    part.entry = u.text();
    part.runs = u.number();
    part.coroutine = u.text();
    for (auto k = u.number(); k; --k) {
      LateMemory late;
      late.storage = u.text();
      late.symbol = u.text();
      late.size = u.number();
      late.alignment = u.number();
      part.late.push_back(std::move(late));
    }
    for (auto k = u.number(); k; --k) {
      PiecePlace piece;
      piece.text_begin = u.number();
      piece.text_end = u.number();
      piece.begin = u.number();
      piece.end = u.number();
      piece.directive = u.number();
      piece.open = u.number();
      part.pieces.push_back(piece);
    }
    c.parts.push_back(std::move(part));
  }
  for (auto n = u.number(); n; --n) {
    NeededSource f;
    f.key = u.text();
    f.source.name = u.text();
    f.source.hash = u.text();
    f.source.fault = u.text();
    for (auto k = u.number(); k; --k) {
      SourceCell cell;
      cell.number = static_cast<int>(u.number());
      cell.text = u.text();
      f.source.cells.push_back(std::move(cell));
    }
    c.functions.push_back(std::move(f));
  }
  for (auto n = u.number(); n; --n) c.wanted.push_back(u.text());
  return c;
}

}  // namespace caller::kernel
