package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// Charge is a limit that a jump counts against. A zero rate is none.
type Charge struct {
	rule gateway.Rule // that refuses, and the kind of its key
	who  string
	rate gateway.Rate
}

// PerUser limits the jumps of a learner of the site.
func PerUser(username string, rate gateway.Rate) Charge {
	return Charge{gateway.RuleRateUser, username, rate}
}

// PerAddress limits the jumps of a client address. A holder of an IPv6 network
// can use any address of it, so the network counts.
func PerAddress(addr netip.Addr, rate gateway.Rate) Charge {
	return Charge{gateway.RuleRateAddress, network(addr).String(), rate}
}

// PerPeer limits the jumps to a peer.
func PerPeer(peer gateway.Wwwroot, rate gateway.Rate) Charge {
	return Charge{gateway.RuleRatePeer, peer.String(), rate}
}

// RateError says that a limit refuses: which one, and when it would not.
type RateError struct {
	Rule  gateway.Rule
	After time.Duration // from now, greater than zero
}

// Error names the limit.
func (e *RateError) Error() string { return fmt.Sprintf("%s: again in %s", e.Rule, e.After) }

// Spend charges limits for a jump that mints no token here. All of them are
// charged or, with a *RateError, none. One round trip, or none without limits.
func (s *Site) Spend(ctx context.Context, charges ...Charge) error {
	charges = limiting(charges)
	if len(charges) == 0 {
		return nil
	}
	keys, args := s.charged(nil, []any{micros(s.r.now())}, charges)
	_, err := verdict(scriptSpend.Run(ctx, s.r.batched, keys, args...), charges)
	return failRate("charge limits", err)
}

// charged appends to the keys and arguments of a script what its charge wants.
func (s *Site) charged(keys []string, args []any, charges []Charge) ([]string, []any) {
	for _, c := range charges {
		interval := max(c.rate.Interval().Microseconds(), 1)
		keys = append(keys, s.key(string(c.rule)+":", c.who))
		args = append(args, interval, interval*int64(c.rate.Burst-1))
	}
	return keys, args
}

// limiting returns the charges that limit.
func limiting(charges []Charge) []Charge {
	var some []Charge
	for _, c := range charges {
		if !c.rate.IsZero() {
			some = append(some, c)
		}
	}
	return some
}

// verdict returns the first number of a script's answer, or a *RateError if
// that is 0: the charge in the second place refuses, for the µs in the third.
func verdict(cmd *redis.Cmd, charges []Charge) (int64, error) {
	answer, err := cmd.Int64Slice()
	switch {
	case err != nil:
		return 0, err
	case len(answer) == 1 && answer[0] != 0:
		return answer[0], nil
	case len(answer) == 3 && answer[1] >= 1 && answer[1] <= int64(len(charges)):
		return 0, &RateError{charges[answer[1]-1].rule, time.Duration(answer[2]) * time.Microsecond}
	}
	return 0, errors.New("unexpected answer of the script")
}

// failRate is fail, but for a *RateError, which is an answer.
func failRate(operation string, err error) error {
	if _, refused := errors.AsType[*RateError](err); refused {
		return err
	}
	return fail(operation, err)
}
