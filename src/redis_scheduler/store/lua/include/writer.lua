-- A writer numbers its batches and sends one at a time, so its last number and answer tell a resend from a new batch.
-- Returns the answer to repeat, or nil for a batch to apply. The writer has given up batches with older numbers.
local function applied(writer, batch)
  local last = redis.call('GET', writer)
  if not last then
    return nil
  end
  local number, answer = string.match(last, '^(%d+) (.*)$')
  number = tonumber(number) or 0  -- 0 if foreign hands wrote another text
  if number == batch then
    return answer
  end
  return number > batch and 'stale' or nil
end

local function remember(writer, batch, answer, expiry_s)
  redis.call('SET', writer, string.format('%.0f %s', batch, answer), 'EX', expiry_s)
end
