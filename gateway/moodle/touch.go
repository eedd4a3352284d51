package moodle

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Owned is a Moodle session and the user whose it has to be.
type Owned struct {
	Session string
	UserID  int64
}

const (
	// Moodle's session_update_timemodified_frequency, and what a key lives
	// longer than the session (source: get_maxlifetime in
	// lib/classes/session/redis.php).
	touchEvery = 20 * time.Second
	keptLonger = touchEvery + time.Minute

	maxTouched = 100 // sessions in one pipeline
)

//go:embed touch.lua
var touchLua string

var scriptTouch = redis.NewScript(touchLua)

// Touch notes a use of each session, as Moodle does itself when its user opens
// a page: no more often than every 20 seconds. It never revives a session that
// is over, and never touches one of somebody else's, or one of Moodle 4.1 to 4.4,
// whose time is inside. Besides what Identity needs, the ACL has to allow
// `%RW~{Prefix}session_* %W~{Prefix}user_* +evalsha +eval +hmget +hset +expire`.
// Two or three round trips for each 100 sessions.
func (r *RedisSessions) Touch(ctx context.Context, sessions []Owned) error {
	for chunk := range slices.Chunk(sessions, maxTouched) {
		err := r.touch(ctx, chunk)
		if redis.IsPermissionError(err) || err != nil && strings.Contains(err.Error(), "user executing the script can't") {
			err = fmt.Errorf("%w (touch_sessions needs more rights than reading does)", err)
		}
		if err != nil {
			return fmt.Errorf("touch moodle sessions in redis: %w", withoutKeys(err))
		}
	}
	return nil
}

func (r *RedisSessions) touch(ctx context.Context, sessions []Owned) error {
	hashes, err := r.readHashes(ctx, sessions)
	if err != nil {
		return err
	}
	life := int64((r.o.SessionTimeout + keptLonger) / time.Second)
	now := r.o.Now()
	var due []touch
	for i, s := range sessions {
		if hashes[i].timemodified != "" && r.due(hashes[i], s.UserID, now) {
			due = append(due, touch{s, []any{
				hashes[i].userid, hashes[i].timemodified, encodeInt(hashes[i].timemodified, now.Unix()), life,
			}})
		}
	}
	touched, err := r.runTouch(ctx, due)
	if err != nil || len(touched) == 0 {
		return err
	}
	pipe := r.o.Client.Pipeline() // the list of a user's sessions lives as long
	for _, s := range touched {
		pipe.Expire(ctx, r.o.Prefix+"user_"+strconv.FormatInt(s.UserID, 10), time.Duration(life)*time.Second)
	}
	_, err = pipe.Exec(ctx)
	return err
}

// readHashes reads what says whether a session may be touched.
func (r *RedisSessions) readHashes(ctx context.Context, sessions []Owned) ([]sessionHash, error) {
	hashes := make([]sessionHash, len(sessions))
	commands := make([]*redis.SliceCmd, len(sessions))
	pipe := r.o.Client.Pipeline()
	for i, s := range sessions {
		if validSessionID(s.Session) {
			commands[i] = pipe.HMGet(ctx, r.sessionKey(s.Session), "userid", "state", "timemodified")
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, cmd := range commands {
		if cmd == nil {
			continue
		}
		var err error
		if hashes[i], err = readHash(cmd); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// due reports whether a session lives, is the user's, and was last used long
// enough ago.
func (r *RedisSessions) due(h sessionHash, userID int64, now time.Time) bool {
	owner, err1 := decodeInt(h.userid)
	state, err2 := decodeInt(h.state)
	modified, err3 := decodeInt(h.timemodified)
	return errors.Join(err1, err2, err3) == nil && owner == userID && owner != 0 && state == 0 &&
		modified >= now.Add(-r.o.SessionTimeout).Unix() && modified < now.Add(-touchEvery).Unix()
}

// touch is a session with the arguments of its script.
type touch struct {
	Owned
	args []any
}

// runTouch runs the script for each and returns those that were touched.
func (r *RedisSessions) runTouch(ctx context.Context, due []touch) ([]Owned, error) {
	commands := make([]*redis.Cmd, len(due))
	pipe := r.o.Client.Pipeline()
	for i, t := range due {
		commands[i] = pipe.EvalSha(ctx, scriptTouch.Hash(), []string{r.sessionKey(t.Session)}, t.args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var touched []Owned
	for i, t := range due {
		n, err := commands[i].Int()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			n, err = scriptTouch.Run(ctx, r.o.Client, []string{r.sessionKey(t.Session)}, t.args...).Int()
		}
		if err != nil {
			return nil, err
		}
		if n == 1 {
			touched = append(touched, t.Owned)
		}
	}
	return touched, nil
}

func (r *RedisSessions) sessionKey(sid string) string { return r.o.Prefix + "session_" + sid }

// encodeInt serialises a number as like, a number or string that phpredis
// serialised.
func encodeInt(like string, n int64) string {
	if !strings.HasPrefix(like, "\x00\x00\x00") {
		return "i:" + strconv.FormatInt(n, 10) + ";"
	}
	if n > math.MaxUint32 {
		return like[:4] + "\x20" + string(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	return like[:4] + "\x0a" + string(binary.BigEndian.AppendUint32(nil, uint32(n)))
}
