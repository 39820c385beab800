-- clean: take out of the indexes of types and labels what is no task: a purge leaves them there.
-- KEYS   tasks types remains type_index...
-- ARGV   cursor (of a ZSCAN of the first index; '0': from its beginning) most# (members of indexes to look at) mark (of
--        the purge of which nothing is left now; '': there is more) types... (whose indexes are to be cleaned)
-- Returns {types cleaned: how many of those named, in their order; cursor where the next one goes on}.
-- Bounds some `most` members, a microsecond or two each, and as many types.
-- Twice  it makes the next step: what was taken out is there no more.
-- Full   SREM of nothing is the first write.
--- names

-- A foreign key in the place of the tasks fails here.
local is_empty = redis.call('HLEN', tasks) == 0
redis.call('SREM', types, '')

-- Takes those members out of an index that are no tasks; returns where the next call goes on.
local function clean(index, from)
  local page = redis.pcall('ZSCAN', index, from, 'COUNT', most)
  if page.err then  -- a user may not be allowed to: what is left there is only looked past
    return '0'
  end
  local gone = {}
  for at = 1, #page[2], 2 do
    if redis.call('HEXISTS', tasks, page[2][at]) == 0 then
      gone[#gone + 1] = page[2][at]
    end
  end
  most = most - #page[2] / 2
  if #gone > 0 then
    redis.call('ZREM', index, unpack(gone))
  end
  return page[1]
end

local cleaned, empty = 0, {}
for number = 1, type_count do
  if most <= 0 then
    break
  end
  local index, name = type_of(number)
  local is_foreign = type(redis.pcall('ZCARD', index)) ~= 'number'
  most = most - 1
  if is_foreign or is_empty then
    cursor = '0'
  else
    cursor = clean(index, cursor)
  end
  if is_empty and not is_foreign then
    redis.call('UNLINK', index)
  end
  if cursor ~= '0' then
    break
  end
  if is_foreign or redis.call('EXISTS', index) == 0 then
    empty[#empty + 1] = name
  end
  cleaned = number
end
if #empty > 0 then
  redis.call('SREM', types, unpack(empty))
end
if mark ~= '' and redis.pcall('GET', remains) == mark then
  redis.call('UNLINK', remains)
end
return {cleaned, cursor}
