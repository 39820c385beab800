-- recall: read the summary of a finished task, the newest if there are several. Reads only.
-- KEYS   results segment...
-- ARGV   key
-- Returns the summary; false if none is kept.
-- Bounds a look-up in each of the 16 segments, and one.
--- names

local text = redis.pcall('HGET', results, 'number')
local number = type(text) == 'string' and tonumber(text) or 0
if not (number >= 0 and number < 1e15) then  -- foreign hands wrote it
  number = 0
end
for age = 0, 15 do
  local summary = redis.pcall('HGET', segment_of((number - age) % 16), key)
  if type(summary) == 'string' then
    return summary
  end
end
return false
