package gateway

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Rate is how often something may happen: N times in every Per, and Burst
// times at once after a rest. The zero Rate is no limit.
type Rate struct {
	N     int
	Per   time.Duration
	Burst int
}

const maxRate = 1_000_000 // of N and Burst: a day's worth stays a number that Lua can count with

var (
	rateForm  = regexp.MustCompile(`^([0-9]{1,9})/([smh])(?: +burst +([0-9]{1,9}))?$`)
	rateUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}
)

// ParseRate reads a rate as String writes it. Without a burst, all of a period
// may come at once.
func ParseRate(s string) (Rate, error) {
	if s == "off" {
		return Rate{}, nil
	}
	parts := rateForm.FindStringSubmatch(s)
	if parts == nil {
		return Rate{}, errors.New("not a rate")
	}
	n, _ := strconv.Atoi(parts[1]) // nine digits at most
	r := Rate{N: n, Per: rateUnits[parts[2]], Burst: n}
	if parts[3] != "" {
		r.Burst, _ = strconv.Atoi(parts[3])
	}
	if r.N < 1 || r.N > maxRate || r.Burst < 1 || r.Burst > maxRate {
		return Rate{}, fmt.Errorf("a rate and its burst are numbers from 1 to %d", maxRate)
	}
	return r, nil
}

// IsZero reports whether the rate is no limit.
func (r Rate) IsZero() bool { return r == Rate{} }

// String returns "30/m", "30/m burst 5" or "off".
func (r Rate) String() string {
	if r.IsZero() {
		return "off"
	}
	unit := "s"
	for name, per := range rateUnits {
		if per == r.Per {
			unit = name
		}
	}
	s := strconv.Itoa(r.N) + "/" + unit
	if r.Burst != r.N {
		s += " burst " + strconv.Itoa(r.Burst)
	}
	return s
}

// Interval returns how far apart things are that come at this rate.
func (r Rate) Interval() time.Duration { return r.Per / time.Duration(max(r.N, 1)) }
