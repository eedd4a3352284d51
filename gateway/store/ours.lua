-- A visit at an application has no session of Moodle's in its record, where a blank is
-- the last, or stands before another one and "off": its session is ours, in the key app.
local function ours(record)
  return string.sub(record, -1) == ' ' or string.sub(record, -5) == '  off'
end

-- Returns the record of a visit as it stands now (µs), or nil if its session is ours
-- and is over.
local function standing(record, app, now)
  if not ours(record) then
    return record
  end
  local left = redis.call('PTTL', app)
  if left < 0 then
    return nil
  end
  local started, expires, rest = string.match(record, '^(%d+) (%d+) (.*)$')
  return table.concat({ started, string.format('%.0f', math.min(tonumber(expires), now + left * 1000)), rest }, ' ')
end

