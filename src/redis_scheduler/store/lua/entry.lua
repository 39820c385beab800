-- entry: say which task stands in each entry of the queue, at most a few hundred a call. Reads only.
-- KEYS   queue
-- ARGV   entry ids
-- Returns per id the task's key, or false where the entry is gone.
-- Bounds one look-up an id.
local queue = KEYS[1]

local keys = {}
for i, id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', queue, id, id)[1]
  keys[i] = entry and entry[2][2] or false
end
return keys
