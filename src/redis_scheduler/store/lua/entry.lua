-- entry: say which task stands in each entry of the queue, at most a few hundred a call. Reads only.
-- KEYS   queue
-- ARGV   ids...
-- Returns per id the task's key, or false where the entry is gone.
-- Bounds one look-up an id.
--- names

local keys = {}
for at = first, #ARGV do
  local id = ARGV[at]
  local entry = redis.call('XRANGE', queue, id, id)[1]
  keys[at] = entry and entry[2][2] or false
end
return keys
