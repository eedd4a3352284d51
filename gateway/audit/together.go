package audit

import (
	"fmt"
	"os"
)

// Together says what a verified file is among the others that are given: a
// fault, a *BadLine, or remarks. live tells that a process still writes it, so
// that its end may be anything.
func (v *Verified) Together(all []Verified, live bool) (remarks []string, err error) {
	if err := v.follows(all); err != nil {
		return nil, err
	}
	if v.After != "" && !named(all, v.After) {
		remarks = append(remarks, fmt.Sprintf("it follows %s, which is not given and whose last line must have the hash %s", v.After, v.Prev))
	}
	for i := range all {
		for _, e := range all[i].Unclosed {
			if e.File != v.Name {
				continue
			}
			if e.Offset != v.Size || e.Size != v.Torn || e.Hash != v.TornHash || e.Head != v.Head {
				return nil, &BadLine{v.Lines + 1, v.Size, fmt.Sprintf(
					"%s tells, in line number %d, that this file had %d bytes of whole lines and %d of a torn one: it was changed since",
					all[i].Name, e.Seq, e.Offset, e.Size)}
			}
			return append(remarks, fmt.Sprintf("its process was killed, as %s tells: %d torn bytes, %d lines after the last checkpoint",
				all[i].Name, v.Torn, v.Lines-v.Signed)), nil
		}
	}
	switch {
	case v.Closed && v.Torn == 0:
	case live:
		remarks = append(remarks, fmt.Sprintf("it is being written: %d lines wait for a checkpoint", v.Lines-v.Signed))
	case v.Torn > 0:
		return nil, &BadLine{v.Lines + 1, v.Size, fmt.Sprintf("%d bytes without a newline at the end, and none of the files tells of them", v.Torn)}
	case v.Signed < v.Lines:
		return nil, &BadLine{v.Signed + 1, v.signedSize, fmt.Sprintf("no checkpoint has signed lines %d to %d, and none of the files tells of them", v.Signed+1, v.Lines)}
	default:
		remarks = append(remarks, "it was not closed: it is still written elsewhere, or its process was killed, or it was cut off after a checkpoint")
	}
	return remarks, nil
}

// follows checks that the file before is the one that this one names.
func (v *Verified) follows(all []Verified) error {
	for i := range all {
		if before := &all[i]; v.After != "" && before.Name == v.After && before.Head != v.Prev {
			return &BadLine{1, 0, fmt.Sprintf("it follows %s, whose last line had another hash then: %s", v.After, v.Prev)}
		}
	}
	return nil
}

func named(all []Verified, name string) bool {
	for i := range all {
		if all[i].Name == name {
			return true
		}
	}
	return false
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
