// The tables of a run's database and how older versions become the present one.
#pragma once

#include "base/result.h"
#include "store/sqlite.h"

namespace nemoforge::store {

// Brings the database to the present schema version, one transaction a version. A database of a newer
// nemoforge is kUnsupported and stays as it is.
[[nodiscard]] Status migrate_schema(Database& database);

// kUnsupported unless the database has exactly the present schema version (for readers, who cannot migrate).
[[nodiscard]] Status check_schema(Database& database);

}  // namespace nemoforge::store
