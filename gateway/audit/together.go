package audit

import (
	"fmt"
	"os"
	"slices"
)

// Together is a set of verified files that are held against each other.
type Together struct {
	Files []Verified
	Bad   []string // names of others that are given, and in which Verify has found a fault
	Whole bool     // they are all that there are: one that is missing is a fault, unless a line tells that it was deleted
}

// Judge says what file i is among the others: a fault, a *BadLine, or remarks.
// live tells that a process still writes it, so that its end may be anything.
func (t Together) Judge(i int, live bool) (remarks []string, err error) {
	v := &t.Files[i]
	if remarks, err = t.before(v); err != nil {
		return nil, err
	}
	by, e := t.told(v.Name, KindTorn, KindUnclosed)
	switch {
	case by != nil && (e.Offset != v.Size || e.Size != v.Torn || e.Hash != v.TornHash || e.Head != v.Head):
		return nil, &BadLine{v.Lines + 1, v.Size, fmt.Sprintf(
			"%s tells, in line number %d, that this file had %d bytes of whole lines and %d of a torn one: it was changed since",
			by.Name, e.Seq, e.Offset, e.Size)}
	case by != nil:
		return append(remarks, fmt.Sprintf("its process was killed, as %s tells: %d torn bytes, %d lines after the last checkpoint",
			by.Name, v.Torn, v.Lines-v.Signed)), nil
	case v.Closed && v.Torn == 0:
		return remarks, nil
	case live:
		return append(remarks, fmt.Sprintf("it is being written: %d lines wait for a checkpoint", v.Lines-v.Signed)), nil
	case v.Torn > 0:
		return nil, &BadLine{v.Lines + 1, v.Size, fmt.Sprintf("%d bytes without a newline at the end, and none of the files tells of them", v.Torn)}
	case v.Signed < v.Lines:
		return nil, &BadLine{v.Signed + 1, v.signedSize, fmt.Sprintf("no checkpoint has signed lines %d to %d, and none of the files tells of them", v.Signed+1, v.Lines)}
	}
	return append(remarks, "it was not closed: it is still written elsewhere, or its process was killed, or it was cut off after a checkpoint"), nil
}

// before looks for the file that v follows.
func (t Together) before(v *Verified) (remarks []string, err error) {
	if v.After == "" {
		return nil, nil
	}
	for i := range t.Files {
		if before := &t.Files[i]; before.Name == v.After {
			if before.Head != v.Prev {
				return nil, &BadLine{1, 0, fmt.Sprintf("it follows %s, whose last line had another hash then: %s", v.After, v.Prev)}
			}
			return nil, nil
		}
	}
	if by, _ := t.told(v.After, KindPruned); by != nil {
		return []string{fmt.Sprintf("it follows %s, which was deleted because of its age, as %s tells", v.After, by.Name)}, nil
	}
	if slices.Contains(t.Bad, v.After) {
		return []string{fmt.Sprintf("it follows %s, which is not good", v.After)}, nil
	}
	if t.Whole {
		return nil, &BadLine{1, 0, fmt.Sprintf("it follows %s, which is missing, and none of the files tells that it was deleted", v.After)}
	}
	return []string{fmt.Sprintf("it follows %s, which is not given and whose last line must have the hash %s", v.After, v.Prev)}, nil
}

// told returns the first event of one of the kinds about a file, and the file
// that has it.
func (t Together) told(name string, kinds ...Kind) (by *Verified, e Event) {
	for i := range t.Files {
		for _, e := range t.Files[i].About {
			if e.File == name && slices.Contains(kinds, e.Kind) {
				return &t.Files[i], e
			}
		}
	}
	return nil, Event{}
}

// Live reports whether a process writes a file, as far as this machine knows.
func Live(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return locked(f)
}
