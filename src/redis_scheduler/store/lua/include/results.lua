-- Summaries of finished tasks. They stand in 16 segments, hashes that expire; `results` says which of them is written,
-- until when, and how many bytes it has. When it is full, or its time is over, the next one is: the oldest, which is
-- dropped if it has not expired. So they hold `most_bytes` at most (of 1 MiB or more: a sixteenth has room for what one
-- call brings), and each stays for `ttl_ms` at least if they fit.
-- A foreign key in their places keeps nothing and stops no task.
local RESULT_BYTES = 150  -- what Redis takes for one besides its key and value

local function add_result(kept, key, result, now)
  if result ~= '' then
    kept[#kept + 1] = key
    kept[#kept + 1] = string.format('{"ended":%.0f', now) .. result
  end
end

local function keep_results(kept, results, segment_of, counters, now, ttl_ms, most_bytes)
  local state = ttl_ms > 0 and kept[1] and redis.pcall('HMGET', results, 'number', 'until_ms', 'bytes')
  if not state or state.err then
    return
  end
  local number, until_ms, bytes = number_of(state[1]), number_of(state[2]), number_of(state[3])
  local period_ms = ttl_ms / 15
  local added = 0
  for i = 1, #kept do
    added = added + #kept[i] + RESULT_BYTES / 2
  end
  local is_full = bytes > 0 and bytes + added > most_bytes / 16
  local is_new = is_full or now >= until_ms or until_ms > now + period_ms
  if is_new then
    number, bytes = number + 1, 0
    local dropped = redis.pcall('HLEN', segment_of(number % 16))
    if type(dropped) == 'number' and dropped > 0 then
      redis.call('UNLINK', segment_of(number % 16))
      add_to_counter(counters, 'results_dropped', dropped)
    end
  end
  local segment = segment_of(number % 16)
  if type(redis.pcall('HSET', segment, unpack(kept))) == 'number' then
    bytes = bytes + added
    if is_new then
      redis.call('PEXPIRE', segment, string.format('%.0f', ttl_ms + period_ms))
    end
  end
  if is_new then
    until_ms = now + period_ms
  end
  redis.call('HSET', results, 'number', string.format('%.0f', number), 'until_ms', string.format('%.0f', until_ms),
    'bytes', string.format('%.0f', bytes))
end
