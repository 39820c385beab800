-- note: add to the journal what somebody changed. The ids of its entries are their numbers.
-- KEYS   journal
-- ARGV   id (of this note) entry (JSON) most# (to keep; 0: none)
-- Returns its number, 0 if none is kept.
-- Bounds one entry; ten are read; what is dropped was added here.
-- Twice  it is found by its id among the last nine: its number.
-- Full   XDEL of nothing is the first write: it is kept all the same.
--- include clock
--- names
if most < 1 then
  redis.call('UNLINK', journal)
  return 0
end
local number, found = 0, redis.pcall('XINFO', 'STREAM', journal)
if type(found) == 'table' and not found.err then
  for at = 1, #found, 2 do
    if found[at] == 'last-generated-id' then
      number = tonumber(found[at + 1]:match('^(%d+)')) or 0
    end
  end
else
  -- The user may not ask so: numbers are given in turn, and only the first entries are dropped.
  local first = redis.call('XRANGE', journal, '-', '+', 'COUNT', 1)[1]
  number = first and tonumber(first[1]:match('^(%d+)')) + redis.call('XLEN', journal) - 1 or 0
end
for _, row in ipairs(redis.call('XRANGE', journal, string.format('%.0f', math.max(0, number - 8)), '+', 'COUNT', 9)) do
  for at = 1, #row[2], 2 do
    if row[2][at] == 'id' and row[2][at + 1] == id then
      return tonumber(row[1]:match('^(%d+)'))
    end
  end
end
number = number + 1
redis.call('XDEL', journal, '0-1')
redis.call('XADD', journal, 'MAXLEN', most, string.format('%.0f-1', number),
  'at', string.format('%.0f', now_ms(math.floor)), 'id', id, 'entry', entry)
return number
