// The one C++ file: toml++ (TOML 1.0) behind the C face of tomlc.h. It is used header-only and
// without its own exceptions; what is left is out of memory, which aborts as everywhere.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#include "tomlc.h"
#include <cstdio>
#include <iterator>
#include <string_view>
#include <toml++/toml.h>

struct toml_document {
    toml::table table;
};

namespace
{
const toml::node &inner(const toml_node *node)
{
    return *reinterpret_cast<const toml::node *>(node);
}

const toml_node *outer(const toml::node *node)
{
    return reinterpret_cast<const toml_node *>(node);
}

toml_place place_of(const toml::source_region &region)
{
    return {static_cast<unsigned>(region.begin.line),
            static_cast<unsigned>(region.begin.column)};
}
} // namespace

extern "C" {

toml_document *toml_read(const char *text, size_t length, toml_error *error)
{
    toml::parse_result result = toml::parse(std::string_view(text, length));

    if (result)
        return new toml_document{std::move(result).table()};
    const std::string_view why = result.error().description();
    error->place = place_of(result.error().source());
    std::snprintf(error->text, sizeof error->text, "%.*s", static_cast<int>(why.size()),
                  why.data());
    return nullptr;
}

void toml_document_free(toml_document *document)
{
    delete document;
}

const toml_node *toml_root(const toml_document *document)
{
    return outer(&document->table);
}

toml_kind toml_node_kind(const toml_node *node)
{
    switch (inner(node).type()) {
    case toml::node_type::table:
        return TOML_KIND_TABLE;
    case toml::node_type::array:
        return TOML_KIND_ARRAY;
    case toml::node_type::string:
        return TOML_KIND_STRING;
    case toml::node_type::integer:
        return TOML_KIND_INTEGER;
    case toml::node_type::floating_point:
        return TOML_KIND_FLOAT;
    case toml::node_type::boolean:
        return TOML_KIND_BOOLEAN;
    default:
        return TOML_KIND_DATE;
    }
}

toml_place toml_node_place(const toml_node *node)
{
    return place_of(inner(node).source());
}

size_t toml_node_count(const toml_node *node)
{
    if (const toml::table *table = inner(node).as_table())
        return table->size();
    if (const toml::array *array = inner(node).as_array())
        return array->size();
    return 0;
}

const toml_node *toml_node_item(const toml_node *node, size_t index, const char **key,
                                toml_place *key_place)
{
    if (const toml::array *array = inner(node).as_array())
        return outer(array->get(index));
    const toml::table *table = inner(node).as_table();
    if (!table || index >= table->size())
        return nullptr;
    auto item = std::next(table->cbegin(), static_cast<std::ptrdiff_t>(index));
    if (key)
        *key = item->first.str().data(); // ends with a NUL: a std::string inside
    if (key_place)
        *key_place = place_of(item->first.source());
    return outer(&item->second);
}

const char *toml_node_string(const toml_node *node, size_t *length)
{
    const auto *string = inner(node).as_string();

    if (!string)
        return nullptr;
    *length = string->get().size();
    return string->get().c_str();
}

int64_t toml_node_integer(const toml_node *node)
{
    const auto *integer = inner(node).as_integer();

    return integer ? integer->get() : 0;
}

bool toml_node_boolean(const toml_node *node)
{
    const auto *boolean = inner(node).as_boolean();

    return boolean && boolean->get();
}
}
