-- A mark, in `failures` behind the attempts. Of an acknowledgement: `@` and the id of the entry that it is awaited of,
-- and behind this `+` once the receiver said that the task is done, or `-` that it has failed. Of a series: `!` once it
-- was told to make an occurrence more, until it has.
-- Returns attempts, mark and the rest of what is kept in `failures`, as texts.
local function parts_of(failure)
  local attempts, mark, rest = string.match(failure or '0', '^(%d+)(%S*)(.*)$')
  return attempts or '0', mark or '', rest or ''
end

-- Forgets an acknowledgement: it is one of the record before.
local function unmark(failures, key)
  local failure = redis.pcall('HGET', failures, key)
  if type(failure) == 'string' and string.find(failure, '^%d+@') then
    local attempts, _, rest = parts_of(failure)
    if attempts == '0' and rest == '' then
      redis.call('HDEL', failures, key)
    else
      redis.call('HSET', failures, key, attempts .. rest)
    end
  end
end

-- Tells a series to make an occurrence more when it is claimed next. Returns whether it was not told yet.
local function tell_to_run(failures, key)
  local attempts, mark, rest = parts_of(redis.call('HGET', failures, key))
  if mark == '' then
    redis.call('HSET', failures, key, attempts .. '!' .. rest)
  end
  return mark == ''
end
