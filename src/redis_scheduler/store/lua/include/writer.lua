-- A writer numbers its batches and sends one at a time, so its last number and answer tell a resend from a new batch.
-- `note` is '' or nil but for a step of an operation on many tasks, which is the writer then, and numbers its steps:
-- '<codes that count> <tasks that counted before> <looked at> <mark> <cursor>'. What is kept, and returned, is how far
-- the operation is, without codes.

-- Returns the answer to repeat, or nil for a batch to apply. The writer has given up batches with older numbers. A step
-- is also not applied unless the one before it was the last.
local function applied(writer, batch, note)
  local number, answer = string.match(redis.call('GET', writer) or '', '^(%d+) (.*)$')
  number = tonumber(number) or 0  -- 0 if foreign hands wrote another text
  if number == batch then
    return answer
  end
  local is_step = (note or '') ~= ''
  return (number > batch or is_step and number < batch - 1) and 'stale' or nil
end

local function remember(writer, batch, answer, expiry_s, note)
  local counted, before, rest = string.match(note or '', '^(%u+) (%d+) (.+)$')
  if counted then
    local _, count = string.gsub(answer, '[' .. counted .. ']', '')
    answer = string.format('%.0f ', before + count) .. rest
  end
  redis.call('SET', writer, string.format('%.0f %s', batch, answer), 'EX', expiry_s)
  return answer
end
