-- clean: take out of the indexes of types, labels and tokens what is no task: a purge leaves them there.
-- KEYS   tasks types remains type_index...
-- ARGV   cursor (of a scan of the first index; '0': from its beginning) most# (members of indexes to look at) mark (of
--        the purge of which nothing is left now; '': there is more) types... (whose indexes are to be cleaned)
-- Returns {types cleaned: how many of those named, in their order; cursor where the next one goes on}; or the error of
--        HSCAN or ZSCAN: a user who may not call them has cleaned nothing.
-- Bounds some `most` members, a microsecond or two each, and as many types.
-- Twice  it makes the next step: what was taken out is there no more.
-- Full   SREM of nothing is the first write.
--- include types
--- names

-- A foreign key in the place of the tasks fails here.
local is_empty = redis.call('HLEN', tasks) == 0
redis.call('SREM', types, '')

-- Takes those members out of an index that are no tasks; returns where the next call goes on, and whether nothing of
-- ours is left: what stands there now may be foreign.
local function clean(index, name, from)
  if is_empty then
    most = most - 1
    if is_ours(index, name) then
      redis.call('UNLINK', index)
    end
    return '0', true
  end
  local scan = is_token(name) and 'HSCAN' or 'ZSCAN'
  local page = redis.pcall(scan, index, from, 'COUNT', most)
  if page.err and not string.find(page.err, 'WRONGTYPE', 1, true) then
    return nil, redis.error_reply(scan .. ': ' .. page.err)
  elseif page.err then
    most = most - 1
    return '0', true
  end
  local gone = {}
  for at = 1, #page[2], 2 do
    if page[2][at] ~= '.bytes' and redis.call('HEXISTS', tasks, page[2][at]) == 0 then
      gone[#gone + 1] = page[2][at]
    end
  end
  most = most - 1 - #page[2] / 2
  if is_token(name) then
    for _, key in ipairs(gone) do
      drop_owned(index, key)
    end
  elseif #gone > 0 then
    redis.call('ZREM', index, unpack(gone))
  end
  return page[1], page[1] == '0' and redis.call('EXISTS', index) == 0
end

local cleaned, empty = 0, {}
for number = 1, type_count do
  if most <= 0 then
    break
  end
  local index, name = type_of(number)
  local is_gone
  cursor, is_gone = clean(index, name, cursor)
  if not cursor then
    return is_gone
  end
  if cursor ~= '0' then
    break
  end
  if is_gone then
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
