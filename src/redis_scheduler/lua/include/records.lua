-- Reads the tasks of the first of some entries: as many as there is room for (bytes of records), one at least. Returns per
-- entry that was read its record and its failure, or false; false, false where the task has left the entry, or the entry is
-- not among those held.
local function records_of(entries, tasks, failures, ids, keys, is_held, room)
  local current = redis.call('HMGET', entries, unpack(keys))
  local failed = redis.call('HMGET', failures, unpack(keys))
  local found = {}
  for i, id in ipairs(ids) do
    local is_loaded = is_held[id] ~= nil and current[i] == id
    local record = is_loaded and redis.call('HGET', tasks, keys[i])
    room = room - (record and #record or 0)
    if room < 0 and i > 1 then
      break
    end
    found[#found + 1] = record
    found[#found + 1] = record and failed[i]
  end
  return found
end
