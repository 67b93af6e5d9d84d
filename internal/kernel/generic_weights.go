package kernel

// The twins of weights_amd64.s: widening of stored weights to float32, one panel
// at a time. Sources are [col][16]; scale holds the factors of the 16 rows.

func widenInt8Go(dst []float32, src []int8, scale []float32) {
	for i, q := range src {
		dst[i] = float32(q) * scale[i%PanelRows]
	}
}

// widenLUT4Go reads dwords [block][16], eight columns of one row in each.
func widenLUT4Go(dst []float32, src []uint32, table, scale []float32) {
	for i, v := range src {
		r := i % PanelRows
		d := dst[(i-r)*8+r:]
		for c := range 8 {
			d[c*PanelRows] = table[v>>(4*c)&15] * scale[r]
		}
	}
}

// widenLUT2Go reads dwords [block][16], sixteen columns of one row in each.
func widenLUT2Go(dst []float32, src []uint32, table, scale []float32) {
	for i, v := range src {
		r := i % PanelRows
		d := dst[(i-r)*16+r:]
		for c := range 16 {
			d[c*PanelRows] = table[v>>(2*c)&3] * scale[r]
		}
	}
}

// widenLUT8Go reads bytes; row r's table starts at table[base[r]].
func widenLUT8Go(dst []float32, src []uint8, table []float32, base []int32, scale []float32) {
	for i, v := range src {
		r := i % PanelRows
		dst[i] = table[int(base[r])+int(v)] * scale[r]
	}
}
